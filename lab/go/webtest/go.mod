module exomesh.io/lab/exo-webtest

go 1.26.0

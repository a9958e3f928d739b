// exo-webtest is the lab's stand-in for the tutorial's demo image: one page on port 3000 that says which version and
// which pod answered. It is also the pause image, which has nothing to do but wait.
//
// For tests of traffic it logs each request, and FAIL_PERCENT of them get status 500. The kubelet's probes do not: the
// version that is ready and yet fails is the one worth testing.
package main

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"html/template"
	"log"
	"math/rand/v2"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

//go:embed page.html
var source string

func main() {
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	if len(os.Args) > 1 && os.Args[1] == "-pause" {
		<-stop.Done()
		return
	}
	page := template.Must(template.New("page").Parse(source))
	host, err := os.Hostname()
	if err != nil {
		log.Fatal(err)
	}
	failPercent, err := strconv.Atoi(cmp.Or(os.Getenv("FAIL_PERCENT"), "0"))
	if err != nil {
		log.Fatal(err)
	}
	facts := map[string]string{"Version": os.Getenv("VERSION"), "Host": host}
	handler := http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
		response.Header().Set("Content-Type", "text/html; charset=utf-8")
		if !strings.HasPrefix(request.UserAgent(), "kube-probe/") {
			log.Printf("%s %s%s", request.Method, request.Host, request.URL.Path)
			if rand.IntN(100) < failPercent {
				response.WriteHeader(http.StatusInternalServerError)
			}
		}
		if err := page.Execute(response, facts); err != nil {
			log.Print(err)
		}
	})
	server := &http.Server{Addr: ":3000", Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		<-stop.Done()
		limit, done := context.WithTimeout(context.Background(), 5*time.Second)
		defer done()
		_ = server.Shutdown(limit)
	}()
	log.Printf("exo-webtest %s on %s", facts["Version"], server.Addr)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
}

# Copyright: (c) 2026, exomesh contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects, logs and configurations as meshes have them, with a secret of its own in every place for one."""

# ruff: noqa: E501 - lines are as long as those that they stand for

from __future__ import annotations

import base64
import gzip
import json
import secrets
import string
from textwrap import wrap
from typing import Any
from urllib.parse import quote

import yaml
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

Object = dict[str, Any]


def text_of(text: str) -> str:
    """A text in base64."""
    return base64.b64encode(text.encode()).decode()


class Planted:
    """Makes the secrets and remembers what each was for."""

    def __init__(self) -> None:
        self.secrets: dict[str, str] = {}

    def __call__(self, where: str, length: int = 24) -> str:
        assert where not in self.secrets
        secret = "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(length))
        self.secrets[where] = secret
        return secret

    def token(self, where: str) -> str:
        """A JSON web token; its signature is what is looked for."""
        head, body = (
            base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
            for part in ({"alg": "RS256", "kid": "1"}, {"sub": "system:serviceaccount:shop:web"})
        )
        return f"{head}.{body}.{self(where, 86)}"

    def key(self, where: str) -> str:
        """A private key as PEM; its longest line is what is looked for."""
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        self.secrets[where] = pem.splitlines()[2]
        return pem

    def leaked(self, content: str) -> list[str]:
        """For what the secrets were that can be found, in any form."""
        dense = "".join(content.replace("\\n", "").split())
        return [
            where
            for where, secret in self.secrets.items()
            if any(form in content or form in dense for form in forms_of(secret))
        ]


def forms_of(secret: str) -> set[str]:
    """A secret as it is, in a URL, and within a longer text in base64 or hexadecimal."""
    forms = {secret, quote(secret, safe=""), secret.encode().hex()}
    for before in range(3):
        encoded = base64.b64encode(b"x" * before + secret.encode()).decode()
        middle = encoded[4 if before else 0 : len(encoded) // 4 * 4 - 4]
        forms |= {middle, middle.replace("+", "-").replace("/", "_")}
        forms.add(text_of(middle)[:-4])
    return forms


def objects(new: Planted) -> list[tuple[str, str, Object]]:
    """Kind, name and rest of objects in istio-system."""
    header = {"exact": new("VirtualService: match on authorization")}
    virtual_service = {
        "hosts": ["shop.example.com"],
        "http": [
            {
                "name": "auth",
                "match": [
                    {
                        "headers": {
                            "authorization": header,
                            "x-api-key": {"prefix": new("VirtualService: match on x-api-key")},
                            "cookie": {
                                "regex": f"^(.*;)?(session={new('VirtualService: match on cookie')})(;.*)?$"
                            },
                            "x-trace": {"exact": "ordinary-trace-header"},
                        },
                        "queryParams": {"access_token": {"exact": new("VirtualService: match on a query")}},
                    }
                ],
                "headers": {
                    "request": {
                        "set": {"Authorization": "Basic " + text_of("me:" + new("VirtualService: set"))},
                        "add": {"X-Api-Key": new("VirtualService: add")},
                        "remove": ["authorization", "cookie", "x-ordinary-removed"],
                    },
                    "response": {"set": {"set-cookie": f"sid={new('VirtualService: set-cookie')}; Path=/"}},
                },
                "route": [{"destination": {"host": "web.shop.svc.cluster.local", "port": {"number": 8080}}}],
                "corsPolicy": {
                    "allowHeaders": ["authorization", "x-ordinary-cors"],
                    "allowCredentials": True,
                },
            }
        ],
    }
    http_route = {
        "rules": [
            {
                "matches": [
                    {
                        "headers": [
                            {
                                "type": "Exact",
                                "name": "X-API-Key",
                                "value": new("HTTPRoute: match"),
                            }
                        ]
                    }
                ],
                "filters": [
                    {
                        "type": "RequestHeaderModifier",
                        "requestHeaderModifier": {
                            "set": [
                                {"name": "Authorization", "value": f"Bearer {new('HTTPRoute: set')}"},
                                {"name": "x-ordinary", "value": "ordinary-route-value"},
                            ],
                            "add": [{"name": "cookie", "value": f"id={new('HTTPRoute: add')}; a=b"}],
                        },
                    },
                    {
                        "requestHeaderModifier": {
                            "add": [{"name": "PRIVATE-TOKEN", "value": new("HTTPRoute: token")}]
                        }
                    },
                ],
            }
        ]
    }
    lua = f"""
      function envoy_on_request(request_handle)
        -- ordinary comment of lua
        request_handle:headers():add("x-api-key", "{new("Lua: add")}")
        request_handle:headers():replace('authorization', 'Basic {text_of("me:" + new("Lua: replace"))}')
        local api_token = "{new("Lua: local")}"
        local headers, body = request_handle:httpCall("ordinary_lua_cluster", {{
          [":method"] = "POST", [":path"] = "/ordinary/path", ["cookie"] = "sid={new("Lua: table")}"
        }}, "body", 5000)
      end
    """
    envoy_filter = {
        "configPatches": [
            {
                "applyTo": "HTTP_FILTER",
                "patch": {
                    "operation": "INSERT_BEFORE",
                    "value": {
                        "name": "envoy.filters.http.lua",
                        "typed_config": {"default_source_code": {"inline_string": lua}},
                    },
                },
            },
            {
                "patch": {
                    "value": {
                        "name": "envoy.filters.http.oauth2",
                        "typed_config": {
                            "config": {
                                "token_endpoint": {"cluster": "ordinary_oauth_cluster", "timeout": "3s"},
                                "credentials": {
                                    "client_id": "web",
                                    "token_secret": {"name": "token", "inline": new("EnvoyFilter: oauth2")},
                                },
                            }
                        },
                    }
                }
            },
            {
                "patch": {
                    "value": {
                        "typed_config": {
                            "users": {
                                "inline_string": "me:{SHA}" + text_of(new("EnvoyFilter: basic_auth", 20)[:20])
                            }
                        }
                    }
                }
            },
            {
                "patch": {
                    "value": {
                        "typed_config": {
                            "@type": "type.googleapis.com/envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuth",
                            "credentials": [
                                {"key": new("EnvoyFilter: api_key_auth"), "client": "ordinary"},
                            ],
                            "token_bucket": {
                                "max_tokens": 4321,
                                "tokens_per_fill": 4322,
                                "fill_interval": "60s",
                            },
                        }
                    }
                }
            },
            {
                "patch": {
                    "value": {
                        "redis": {"auth_password": {"inline_string": new("EnvoyFilter: redis")}},
                        "request_headers_to_add": [
                            {"header": {"key": "x-auth-token", "value": new("EnvoyFilter: headers to add")}}
                        ],
                    }
                }
            },
        ]
    }
    wasm = {
        "url": "oci://registry.example.com/filters/auth:v1",
        "pluginName": "ordinary-plugin",
        "imagePullSecret": "ordinary-pull-secret",
        "pluginConfig": {
            "credentials": [
                "me:" + new("WasmPlugin: credentials"),
                "Basic " + text_of("x:" + new("WasmPlugin: Basic")),
            ],
            "api_keys": {"alice": new("WasmPlugin: mapping"), "bob": [new("WasmPlugin: list in a mapping")]},
            "basic_auth_rules": [
                {"prefix": "/ordinary", "credentials": [text_of("y:" + new("WasmPlugin: base64"))]}
            ],
            "consumers": [{"name": "ordinary-consumer", "secret": {"value": new("WasmPlugin: nested")}}],
            "upstream": {"auth": {"user": "ordinary-user", "pass": new("WasmPlugin: pass")}},
            "pin": 0,
        },
        "vmConfig": {
            "env": [{"name": "UPSTREAM_PWD", "valueFrom": "INLINE", "value": new("WasmPlugin: env")}]
        },
    }
    authorization_policy = {
        "rules": [
            {
                "when": [
                    {
                        "key": "request.headers[authorization]",
                        "values": [f"Bearer {new('AuthorizationPolicy: values')}"],
                    },
                    {
                        "key": "request.headers[x-api-key]",
                        "notValues": [new("AuthorizationPolicy: notValues")],
                    },
                    {"key": "request.auth.claims[iss]", "values": ["https://ordinary-issuer.example.com"]},
                ]
            }
        ]
    }
    request_authentication = {
        "jwtRules": [
            {
                "issuer": "ordinary-jwt-issuer",
                "fromHeaders": [{"name": "authorization", "prefix": "Bearer "}],
                "fromCookies": ["ordinary-cookie-name"],
                "forwardOriginalToken": True,
                "jwks": json.dumps(
                    {"keys": [{"kty": "oct", "kid": "ordinary-kid", "k": new("RequestAuthentication: jwks")}]}
                ),
            }
        ]
    }
    container = {
        "name": "auth",
        "image": "registry.example.com/ordinary/image@sha256:" + "4f" * 32,
        "args": [
            "--password",
            new("container: --password X"),
            "--api-token",
            new("container: --api-token X"),
            f"--client-secret={new('container: --client-secret=X')}",
            "--user",
            "me:" + new("container: --user"),
            "-H",
            f"X-Api-Key: {new('container: -H')}",
            "--token-file",
            "/ordinary/token-file",
            "--keepalive",
            "ordinary-keepalive",
            "--passthrough",
            "ordinary-passthrough",
        ],
        "command": [
            "sh",
            "-c",
            (
                f"mysql --user ordinary --password '{new('container: sh --password')}' -h ordinary-db; "
                f"REDIS_PASS={new('container: sh variable')} redis-cli; curl -u me:{new('container: curl -u')} "
                f"-H 'Cookie: a=b; sid={new('container: curl cookie')}' https://ordinary-curl.example.com/"
            ),
        ],
        "env": [
            {"name": "DB_PASS", "value": new("env: _PASS")},
            {"name": "REDIS_AUTH", "value": new("env: _AUTH")},
            {"name": "MAIL_PWD", "value": new("env: _PWD")},
            {"name": "STRIPE_KEY", "value": new("env: _KEY")},
            {"name": "GITHUB_TOKEN", "value": new("env: _TOKEN")},
            {"name": "SESSION_SALT", "value": new("env: _SALT")},
            {"name": "SENTRY_DSN", "value": f"https://{new('env: user in a URL')}@sentry.example.com/1"},
            {
                "name": "DATABASE_URL",
                "value": f"postgres://me:{new('env: password in a URL')}@db.example.com/x",
            },
            {"name": "AWS_SECRET_ACCESS_KEY", "value": new("env: AWS")},
            {"name": "CONFIG", "value": json.dumps({"smtp": {"password": new("env: JSON")}})},
            {"name": "PASSPHRASES", "value": f"{new('env: several')},{new('env: several, second')}"},
            {
                "name": "SOME_KEY",
                "valueFrom": {"secretKeyRef": {"name": "ordinary-secret", "key": "ordinary-key"}},
            },
            {
                "name": "JAVA_OPTS",
                "value": f"-Xmx1g -Djavax.net.ssl.keyStorePassword={new('env: -D')} -Dordinary=ordinary-option",
            },
            {"name": "RATE_LIMIT", "value": "5000 tokens per second"},
        ],
        "ports": [{"name": "http-auth", "containerPort": 8181}],
        "livenessProbe": {
            "httpGet": {
                "path": "/ordinary",
                "httpHeaders": [{"name": "Authorization", "value": f"Token {new('probe: header')}"}],
            }
        },
        "volumeMounts": [{"name": "ordinary-token-volume", "mountPath": "/var/run/secrets/tokens"}],
    }
    applied_secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "ordinary-applied"},
        "data": {"anything": text_of(new("last applied: data of a Secret"))},
        "stringData": {"other": new("last applied: stringData")},
    }
    applied_pod = {"spec": {"containers": [{"env": [{"name": "X_PASS", "value": new("last applied: env")}]}]}}
    docker = {
        "auths": {
            "ordinary-registry.example.com": {
                "username": "me",
                "auth": text_of("me:" + new("dockerconfigjson: auth")),
            }
        }
    }
    deployment = {
        "replicas": 1,
        "template": {
            "metadata": {"annotations": {"ordinary.example.com/vault-token": new("annotation: by name")}},
            "spec": {
                "containers": [container],
                "imagePullSecrets": [{"name": "ordinary-regcred"}],
                "volumes": [
                    {
                        "name": "v",
                        "secret": {
                            "secretName": "ordinary-volume-secret",
                            "items": [{"key": "ordinary.crt", "path": "p"}],
                        },
                    },
                    {
                        "name": "t",
                        "projected": {
                            "sources": [
                                {
                                    "serviceAccountToken": {
                                        "audience": "ordinary-audience",
                                        "path": "istio-token",
                                        "expirationSeconds": 43200,
                                    }
                                }
                            ]
                        },
                    },
                ],
            },
        },
    }
    annotations = {
        "kubectl.kubernetes.io/last-applied-configuration": json.dumps(applied_secret),
        "example.com/last": json.dumps({"last": json.dumps(applied_pod)}),
        "example.com/docker": json.dumps(docker),
        "example.com/yaml": yaml.safe_dump(
            {"users": [{"name": "me", "user": {"token": new("annotation: YAML")}}]}
        ),
        "example.com/gzip": base64.b64encode(
            gzip.compress(json.dumps({"admin_password": new("annotation: gzip in base64")}).encode())
        ).decode(),
        "example.com/query": "https://ordinary-url.example.com/cb?code=1&access_token="
        + new("annotation: query"),
        "example.com/escaped": quote(f"password={new('annotation: url-encoded')}&x=1", safe=""),
    }
    configmap = {
        "application.yaml": (
            "# ordinary comment\nserver:\n  port: 8080\n"
            f"spring:\n  datasource:\n    username: ordinary-name\n    password: {new('ConfigMap: YAML')}\n"
            f"clients:\n  - exact: {new('ConfigMap: pair in YAML, value first')}\n    name: x-api-key\n"
            f"tokens:\n  - {new('ConfigMap: list in YAML')}\n  - {new('ConfigMap: list in YAML, second')}\n"
            f"secrets: {{a: {new('ConfigMap: flow mapping')}, b: [{new('ConfigMap: flow list')}]}}\n"
            f"credentials:\n    alice:\n      value: >-\n        {new('ConfigMap: folded')}\n"
            f"script: |\n  export API_TOKEN={new('ConfigMap: script in YAML')}\n  echo ordinary-script\n"
        ),
        "template.yaml": (
            "{{- if .Values.x }}\n"
            "env:\n- name: ordinary-env\n  value: {{ .Values.ordinary }}\n"
            f"- name: ADMIN_PASS\n  value: {new('ConfigMap: pair in a template')}\n"
            f"apiKeys:\n- {new('ConfigMap: list in a template')}\n{{{{- end }}}}\nordinaryAfter: ordinary-after\n"
        ),
        "app.properties": f"ordinary.name=ordinary-property\ndb.password={new('ConfigMap: properties')}\njwt.signing-key: {new('ConfigMap: properties, key')}\n",
        "app.ini": f"[smtp]\nhost = ordinary-host\npass = {new('ConfigMap: ini')}\n",
        "app.toml": f'[redis]\nrequirepass = "{new("ConfigMap: toml")}"\ntokens = ["{new("ConfigMap: toml list")}"]\n',
        "app.xml": f'<a><password>{new("ConfigMap: XML")}</password><host>ordinary-xml</host><user pass="{new("ConfigMap: XML attribute")}"/></a>',
        "machine.txt": f"machine ordinary-machine login me password {new('ConfigMap: netrc')}\n",
        "users.htpasswd": f"me:$apr1$abcdefgh${new('ConfigMap: htpasswd', 22)}\n",
        "tls.key": new.key("ConfigMap: key as PEM"),
        "bundle": text_of(new.key("ConfigMap: key in base64")),
        "wrapped": "\n".join(
            wrap(
                text_of(
                    json.dumps({"a": "b" * 50, "password": new("ConfigMap: base64 in lines"), "c": "d" * 50})
                ),
                76,
            )
        ),
        "id": "ordinary-id",
        "values": json.dumps(
            {"global": {"hub": "docker.io/istio", "proxy": {"privateKey": new("ConfigMap: JSON")}}}
        ),
    }
    proxied = {
        "proxyMetadata": {"UPSTREAM_AUTH": new("meshConfig: proxyMetadata")},
        "extensionProviders": [
            {
                "name": "ordinary-provider",
                "envoyExtAuthzHttp": {
                    "includeAdditionalHeadersInCheck": {"x-api-key": new("meshConfig: headers in check")},
                    "includeRequestHeadersInCheck": ["cookie", "authorization"],
                },
            }
        ],
    }
    event = {
        "reason": "Unhealthy",
        "message": f'Liveness probe failed: Get "https://me:{new("Event: URL")}@10.0.0.1/x?token={new("Event: query")}": ordinary event; '
        f"Authorization: Basic {text_of('me:' + new('Event: Basic'))}",
        "involvedObject": {"kind": "Pod", "name": "ordinary-pod"},
    }
    return [
        ("VirtualService", "shop", {"spec": virtual_service}),
        ("HTTPRoute", "shop", {"spec": http_route}),
        ("EnvoyFilter", "lua", {"spec": envoy_filter}),
        ("WasmPlugin", "basic-auth", {"spec": wasm}),
        ("AuthorizationPolicy", "headers", {"spec": authorization_policy}),
        ("RequestAuthentication", "jwt", {"spec": request_authentication}),
        ("Deployment", "ordinary-deployment", {"spec": deployment, "annotations": annotations}),
        ("ConfigMap", "ordinary-config", {"data": configmap}),
        ("ConfigMap", "istio-other", {"data": {"mesh": yaml.safe_dump(proxied)}}),
        ("Event", "ordinary-event", event),
    ]


def log(new: Planted) -> str:
    """Lines as istiod, Envoy and others write them."""
    config = {
        "headers": [{"name": "authorization", "value": new("log: pair in JSON")}],
        "credentials": [new("log: list in JSON")],
    }
    pem = new.key("log: key in lines with a prefix")
    lines: list[str] = [
        "2026-11-23T08:00:00Z\tinfo\tordinary log line, 7000 tokens per second, secret=istio-system/ordinary-remote",
        f"2026-11-23T08:00:00Z\terror\trequest to https://x/ with Authorization: Bearer {new('log: Bearer')} refused",
        f"error: got token={new.token('log: JWT')} from ordinary-peer",
        f'authorization: Digest username="me", response="{new("log: Digest")}"',
        json.dumps(
            {
                "level": "info",
                "msg": "ordinary json line",
                "headers": {"cookie": f"sid={new('log: JSON line')}"},
            }
        ),
        f"debug config {json.dumps(config)} ordinary-end",
        f'msg="got {{\\"api_key\\":\\"{new("log: escaped JSON")}\\"}}" ordinary=escaped',
        f"map[Accept:[*/*] Authorization:[Basic {text_of('me:' + new('log: Go map, Basic'))}] X-Api-Key:[{new('log: Go map')}] Ordinary:[ordinary-go]]",
        f"&Config{{User:ordinary-go-user Password:{new('log: Go struct')} Port:80}}",
        f"[{{DB_PASS {new('log: Go env')} nil}}]",
        f"':authority', 'ordinary-authority'\n'x-api-key', '{new('log: Envoy headers')}'\n'cookie', 'a=b; sid={new('log: Envoy cookie')}'",
        f'key: "authorization"\n  value: "Basic {text_of("z:" + new("log: protobuf text"))}"',
        f'"GET /ordinary/path?api_key={new("log: query")}&page=2 HTTP/1.1" 200 - via_upstream',
        f"exec: mysqld --user=ordinary --password {new('log: --password X')} --port 3306",
        f'args: ["--token", "{new("log: quoted arguments")}", "--ordinary-flag", "ordinary-argument"]',
        f"env: STRIPE_API_KEY={new('log: variable')} HOSTNAME=ordinary-hostname",
        f"invalid password '{new('log: in a sentence')}' for user ordinary-sentence",
        f"the api key is {new('log: is')}, says ordinary-is",
        "credentials:",
        f"  - {new('log: YAML list')}",
        f"  - user: {new('log: YAML list of mappings')}",
        "ordinary: after-the-list",
        f'{{\n  "tokens": [\n    "{new("log: JSON over lines")}"\n  ],\n  "ordinary": "json-over-lines"\n}}',
        "-----BEGIN CERTIFICATE REQUEST-----",
        *(f"2026-11-23T08:00:01Z stderr F {line}" for line in pem.splitlines()),
        f"pushed to https://oauth2:{new('log: URL')}@git.example.com/ordinary/repository.git",
        f"ghp_{new('log: GitHub', 36)} was given",
        f"\x1b[31mpass\x1b[0mword: {new('log: coloured name')}",
        f"retry with {quote('Bearer ' + new('log: url-encoded Bearer'), safe='')}&ordinary=encoded",
        f"header {text_of('x-api-key: ' + new('log: header in base64'))}",
        "passthrough cluster ordinary-pass, keepalive ordinary-alive, author: ordinary-author",
    ]
    return "\n".join(lines) + "\n"


def config_dump(new: Planted) -> Object:
    """What a gateway's proxy tells of its configuration."""
    route = {
        "match": {
            "headers": [
                {"name": "x-api-key", "string_match": {"exact": new("config dump: string_match")}},
                {"exact_match": new("config dump: exact_match"), "name": "authorization"},
                {"name": ":authority", "string_match": {"exact": "ordinary-authority-match"}},
            ],
            "query_parameters": [
                {"name": "token", "string_match": {"safe_regex": {"regex": new("config dump: regex")}}}
            ],
        },
        "request_headers_to_add": [
            {
                "header": {
                    "key": "authorization",
                    "value": f"Basic {text_of('q:' + new('config dump: header'))}",
                }
            },
            {"header": {"key": "cookie", "raw_value": text_of(new("config dump: raw_value"))}},
        ],
        "request_headers_to_remove": ["authorization", "x-ordinary-dump"],
        "typed_per_filter_config": {
            "wasm": {
                "configuration": {
                    "@type": "type.googleapis.com/google.protobuf.StringValue",
                    "value": json.dumps({"credentials": [new("config dump: StringValue")]}),
                }
            },
            "permissions": [
                {"header": {"name": "cookie", "string_match": {"contains": new("config dump: rbac")}}}
            ],
        },
    }
    transport = {
        "common_tls_context": {
            "tls_certificate_sds_secret_configs": [
                {"name": "ordinary-sds-name", "sds_config": {"path_config_source": {"path": "/ordinary/sds"}}}
            ],
            "tls_certificates": [{"private_key": {"inline_bytes": text_of(new("config dump: private_key"))}}],
        },
        "session_ticket_keys": {"keys": [{"inline_bytes": text_of(new("config dump: session ticket"))}]},
    }
    return {
        "configs": [
            {"@type": "envoy.admin.v3.SecretsConfigDump", "key": new("config dump: secrets")},
            {
                "@type": "envoy.admin.v3.BootstrapConfigDump",
                "bootstrap": {
                    "node": {
                        "metadata": {
                            "PROXY_CONFIG": {"proxyMetadata": {"X_PASS": new("config dump: bootstrap")}},
                            "ANNOTATIONS": {"a": f"--token {new('config dump: annotation')}"},
                        }
                    }
                },
            },
            {"@type": "envoy.admin.v3.RoutesConfigDump", "routes": [route], "transport_socket": transport},
        ]
    }


ORDINARY = [
    "ordinary-trace-header",
    "x-ordinary-removed",
    "x-ordinary-cors",
    "ordinary-route-value",
    "x-ordinary",
    "ordinary_lua_cluster",
    "/ordinary/path",
    "ordinary_oauth_cluster",
    "4321",
    "4322",
    "ordinary-plugin",
    "ordinary-pull-secret",
    "ordinary-consumer",
    "https://ordinary-issuer.example.com",
    "ordinary-jwt-issuer",
    "ordinary-cookie-name",
    "registry.example.com/ordinary/image@sha256:",
    "/ordinary/token-file",
    "ordinary-keepalive",
    "ordinary-passthrough",
    "ordinary-db",
    "ordinary-curl.example.com",
    "ordinary-secret",
    "ordinary-key",
    "ordinary-option",
    "http-auth",
    "8181",
    "ordinary-token-volume",
    "/var/run/secrets/tokens",
    "ordinary-applied",
    "ordinary-registry.example.com",
    "ordinary-regcred",
    "ordinary-volume-secret",
    "ordinary.crt",
    "ordinary-audience",
    "istio-token",
    "43200",
    "ordinary-url.example.com",
    "ordinary-name",
    "ordinary-script",
    "ordinary-after",
    "ordinary-property",
    "ordinary-host",
    "ordinary-xml",
    "ordinary-machine",
    "ordinary-id",
    "docker.io/istio",
    "ordinary-provider",
    "ordinary-pod",
    "ordinary-remote",
    "ordinary-peer",
    "ordinary-end",
    "ordinary-go",
    "ordinary-go-user",
    "ordinary-authority",
    "page=2",
    "ordinary-argument",
    "ordinary-hostname",
    "ordinary-sentence",
    "ordinary-is",
    "after-the-list",
    "json-over-lines",
    "git.example.com/ordinary/repository.git",
    "ordinary-pass",
    "ordinary-alive",
    "ordinary-author",
    "ordinary-authority-match",
    "x-ordinary-dump",
    "ordinary-sds-name",
    "/ordinary/sds",
    "web.shop.svc.cluster.local",
    "ordinary-kid",
    "shop.example.com",
]
ORDINARY += [
    "5000 tokens per second",
    "7000 tokens per second",
    "ordinary comment of lua",
    "ordinary log line",
    "ordinary json line",
    '"name": "authorization"',
    '"key": "cookie"',
    '"name": "X-API-Key"',
    '"name": "DB_PASS"',
    '"name": "auth"',
    "BEGIN CERTIFICATE-----",
]

"""The configuration of nginx, which serves the ports of the registry's pod and is the only way to the registry itself.

nginx terminates TLS, asks for passwords, and limits what one client can hold on to. The registry listens on the pod's
own loopback address and trusts whoever reaches it there. `nginx.sh`, which lies beside this module, runs nginx.

What this deliberately does not do: it buffers nothing on disk, rewrites no answer of the registry, and does not use
HTTP/2, since clients move layers over connections of their own and HTTP/2 would add a window to each upload.
"""

from typing import Literal

AuthMode = Literal["none", "push", "basic"]
"""Who is asked for a password: nobody, whoever pushes or deletes, or everyone."""

PLAIN_PORT, TLS_PORT = 5000, 5443
"""TCP ports of the pod: plain HTTP for Ingress controllers, and TLS for everyone else."""
REGISTRY_PORT, METRICS_PORT = 5001, 5002
"""TCP ports of the registry's own container on the pod's loopback address: its API, and what it counts."""

TLS, USERS, RUN = "/etc/private-registry-tls", "/etc/private-registry-users", "/run/nginx"
"""Folders in the pod: the certificate `tls.crt` with its key `tls.key`, the password files, and what nginx writes."""
STOPPED, FULL = f"{RUN}/stopped", f"{RUN}/full"
"""Files that are looked for at each request that is no pull. While the first one is there, such a request is answered
503; it holds the time, in seconds since 1970, at which `nginx.sh` takes it away if nobody has put a later one there.
While the second one is there, what needs space is answered 507."""
READERS, PUSHERS = "readers", "pushers"
"""The password files: who may pull, which is everyone who has a password, and who may push and delete as well."""

DRAIN = 50
"""Seconds for which open transfers go on after the pod was told to end."""
PROCESSES = 4
"""Processes of nginx. One that waits for a slow volume does nothing else meanwhile."""
CONNECTIONS = 4096
"""Connections that each of nginx's processes can have; every request takes two, one of them to the registry."""

_REALM = "private-registry"
_STOPPED = "nothing can be pushed or deleted while space is freed (make gc); try again in a minute"
_FULL = (
    "the storage of the registry is full: nothing can be pushed before images are deleted and make gc has run, or "
    "storageSize is larger"
)


def _asking(users: str) -> str:
    return f'auth_basic "{_REALM}"; auth_basic_user_file {USERS}/{users};'


def _ping(mode: AuthMode) -> str:
    """Who is asked at `/v2/`. Docker's client asks there, and nowhere else, whether it has to send its login."""
    return "" if mode == "none" else _asking(READERS)


def _reads(mode: AuthMode) -> str:
    """Who is asked for what is pulled."""
    return _asking(READERS) if mode == "basic" else ""


def _content(mode: AuthMode) -> str:
    """Who is asked for manifests, blobs, tags and the catalog. `limit_except GET` leaves out HEAD as well."""
    writes = "" if mode == "none" else f"limit_except GET {{ {_asking(PUSHERS)} }}"
    return " ".join(filter(None, [_reads(mode), writes]))


def _blobs(mode: AuthMode, data: str) -> str:
    """How blobs are sent from the registry's own files, so that no byte of a layer passes through two programs.

    The registry is asked whether the repository has the blob. Whatever it says but yes, it says to the client itself.
    """
    reads = _reads(mode)
    return f"""
        # Blobs, in the one spelling of their paths that clients use.
        if ($plain_get) {{
            rewrite "^/v2/[a-z0-9._/-]+/blobs/sha256:[0-9a-f]{{64}}$" /blob$uri last;
        }}
        location ~ "^/blob/v2/(?<repository>.+)/blobs/sha256:(?<two>[0-9a-f]{{2}})(?<rest>[0-9a-f]{{62}})$" {{
            internal;
            {reads}
            auth_request /has-blob;
            error_page 401 @unauthorized;
            error_page 403 404 500 = @registry;
            alias {data}/docker/registry/v2/blobs/sha256/$two/$two$rest/data;
            output_buffers 2 64k;
            default_type application/octet-stream;
            etag off;
            if_modified_since off;
            add_header Docker-Distribution-Api-Version registry/2.0 always;
            add_header Docker-Content-Digest sha256:$two$rest;
            add_header ETag '"sha256:$two$rest"';
            add_header Cache-Control max-age=31536000;
        }}
        location = /has-blob {{
            internal;
            proxy_method HEAD;
            proxy_pass http://registry/v2/$repository/blobs/sha256:$two$rest;
        }}
        location @registry {{
            {reads}
            limit_except GET {{ deny all; }}
            proxy_pass http://registry$request_uri;
        }}
"""


def configuration(mode: AuthMode, data: str) -> str:
    """The configuration file of nginx.

    A password file that is missing lets nobody in: nginx answers 403, and 401 where the file has no such line. It reads
    these files at each request, so a new password needs no reload (ngx_http_auth_basic_module.c).

    Args:
        mode: Who is asked for a password.
        data: Folder of the registry's files; empty if they are in a bucket.
    """
    return f"""\
worker_processes {PROCESSES};
worker_rlimit_nofile {2 * CONNECTIONS};
pid {RUN}/nginx.pid;
error_log stderr warn;
events {{ worker_connections {CONNECTIONS}; }}

http {{
    # The container's file system is read-only, so each of nginx's five folders has to be elsewhere, also unused ones.
    client_body_temp_path {RUN}/body;
    proxy_temp_path {RUN}/proxy;
    fastcgi_temp_path {RUN}/fastcgi;
    uwsgi_temp_path {RUN}/uwsgi;
    scgi_temp_path {RUN}/scgi;

    log_format access '$remote_addr "$http_x_forwarded_for" $remote_user [$time_iso8601] "$request" $status '
                      '$body_bytes_sent $request_time "$http_user_agent"';
    access_log /dev/stdout access;
    server_tokens off;
    absolute_redirect off;

    # A client may stop in the middle of a transfer for as long as this, and hold an idle connection for as long.
    client_header_timeout 10s;
    client_body_timeout 5m;
    send_timeout 5m;
    keepalive_timeout 75s;
    reset_timedout_connection on;
    large_client_header_buffers 4 16k;
    # A limit of each port, not of each client: behind an Ingress all clients have one address.
    limit_conn_zone $server_port zone=port:1m;
    limit_conn port {CONNECTIONS // 2};
    limit_conn_status 503;

    # Layers of any size pass through memory, at the pace of whoever is slower.
    client_max_body_size 0;
    client_body_buffer_size 64k;
    proxy_request_buffering off;
    proxy_buffering off;
    proxy_buffer_size 64k;
    proxy_buffers 4 64k;

    upstream registry {{
        server 127.0.0.1:{REGISTRY_PORT};
        keepalive 64;
    }}
    proxy_http_version 1.1;
    # The registry hashes what it was sent before it answers, which takes a while for a large layer on a slow volume.
    proxy_read_timeout 1h;
    proxy_send_timeout 1h;
    proxy_set_header Host $http_host;
    proxy_set_header Connection "";
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header X-Forwarded-Proto $client_scheme;
    # The registry knows no passwords; a login goes no further than here.
    proxy_set_header Authorization "";
    # On the plain port only an Ingress controller knows what the client used.
    map $scheme$http_x_forwarded_proto $client_scheme {{
        default $scheme;
        httphttps https;
    }}

    # Requests that need nothing of the registry but its word; conditions are answered by itself.
    map "$request_method$content_length$http_if_match$http_if_unmodified_since" $plain_get {{
        default "";
        GET yes;
        GET0 yes;
    }}

    # The files that stop a request, by its method: pulls are never stopped, and what is deleted needs no space.
    map $request_method $stopped {{
        default {STOPPED};
        GET {RUN}/never;
        HEAD {RUN}/never;
    }}
    map $request_method $full {{
        default {RUN}/never;
        PATCH {FULL};
        POST {FULL};
        PUT {FULL};
    }}

    ssl_certificate {TLS}/tls.crt;
    ssl_certificate_key {TLS}/tls.key;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_cache shared:tls:2m;
    ssl_buffer_size 16k;

    server {{
        listen {PLAIN_PORT} backlog=1024;
        listen [::]:{PLAIN_PORT} ipv6only=on backlog=1024;
        listen {TLS_PORT} ssl backlog=1024;
        listen [::]:{TLS_PORT} ssl ipv6only=on backlog=1024;

        # Clients look for this header, and the registry cannot add it to an answer that it does not give.
        proxy_hide_header Docker-Distribution-Api-Version;
        add_header Docker-Distribution-Api-Version registry/2.0 always;
        error_page 401 @unauthorized;
        location @unauthorized {{
            default_type application/json;
            return 401 '{{"errors":[{{"code":"UNAUTHORIZED","message":"authentication required","detail":null}}]}}\\n';
        }}

        if (-f $stopped) {{
            rewrite ^ /stopped last;
        }}
        if (-f $full) {{
            rewrite ^ /full last;
        }}
        location = /stopped {{
            internal;
            default_type application/json;
            add_header Docker-Distribution-Api-Version registry/2.0 always;
            add_header Retry-After 30 always;
            return 503 '{{"errors":[{{"code":"UNAVAILABLE","message":"{_STOPPED}","detail":null}}]}}\n';
        }}
        location = /full {{
            internal;
            default_type application/json;
            return 507 '{{"errors":[{{"code":"DENIED","message":"{_FULL}","detail":null}}]}}\n';
        }}

{_blobs(mode, data) if data else ""}
        # Whether the registry's storage works. Nobody is asked here.
        location = / {{
            access_log off;
            proxy_pass http://registry;
        }}
        # This is proxied, since `return` would come before the question for a password; and always as `/v2/`, so that
        # no spelling of another path gets past the question that is asked there.
        location = /v2/ {{
            {_ping(mode)}
            proxy_pass http://registry/v2/;
        }}
        location /v2/ {{
            {_content(mode)}
            proxy_pass http://registry;
        }}
        location / {{
            return 404;
        }}
    }}
}}
"""

"""Makes Python's HTTP clients use the proxy of HTTPS_PROXY, and trust the CA, where they do not themselves.

`keyward run` puts the directory of this file into PYTHONPATH, and Python imports it at its start. It changes a library when a
program imports that: http.client and urllib3 (also copies of it), aiohttp, httpcore below httpx, and certifi. HTTPS alone
is changed; hosts of NO_PROXY stay direct.
"""

import os
import sys


class Proxy(object):
    """The proxy of the environment for one host."""

    def __init__(self, url):
        from urllib.parse import unquote, urlsplit

        parts = urlsplit(url)
        self.scheme, self.host, self.port = parts.scheme, parts.hostname, parts.port or 80
        self.user, self.password = unquote(parts.username or ""), unquote(parts.password or "")
        # Without credentials.
        self.place = "{}://{}".format(parts.scheme, parts.netloc.rpartition("@")[2])

    @classmethod
    def of(cls, host):
        """None where the environment names no proxy, or excepts the host."""
        from urllib.request import proxy_bypass_environment

        url = os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy")
        return None if not url or not host or proxy_bypass_environment(host) else cls(url)

    def authorization(self):
        from base64 import b64encode

        pair = "{}:{}".format(self.user, self.password).encode()
        return {"Proxy-Authorization": "Basic " + b64encode(pair).decode()}


def patch_connect(connection):
    """For http.client and urllib3, whose `connect` opens the tunnel that `set_tunnel` asks for."""
    connect = connection.connect

    def connect_by_proxy(self, *arguments, **options):
        host, port = self.host, self.port
        target = getattr(self, "_tunnel_host", None)
        proxy = Proxy.of(target or host)
        if proxy is None or proxy.scheme != "http":
            return connect(self, *arguments, **options)
        if target:
            # urllib3 takes no credentials from the URL of a proxy.
            headers = self._tunnel_headers or {}
            is_ours = (host, port) == (proxy.host, proxy.port)
            if is_ours and "proxy-authorization" not in map(str.lower, headers):
                self._tunnel_headers = dict(headers, **proxy.authorization())
            return connect(self, *arguments, **options)
        if getattr(self, "proxy", None) or getattr(self, "sock", None):
            return connect(self, *arguments, **options)
        self.set_tunnel(host, port, proxy.authorization())
        self.host, self.port = proxy.host, proxy.port
        try:
            return connect(self, *arguments, **options)
        finally:
            # The connection is to its host again, for the field Host and for the next `connect`.
            self.host, self.port = host, port
            self._tunnel_host, self._tunnel_port, self._tunnel_headers = None, None, {}

    connection.connect = connect_by_proxy


def patch_http_client(module):
    patch_connect(module.HTTPSConnection)


def patch_aiohttp(module):
    """A request gets the proxy as with `trust_env`, which would also read the user's netrc."""
    url_type, auth_type = module.URL, module.BasicAuth
    update = module.ClientRequest.update_proxy

    def update_by_environment(self, proxy, *rest):
        if not proxy and self.url.scheme in ("https", "wss"):
            found = Proxy.of(self.url.host)
            if found is not None and found.scheme == "http":
                proxy = url_type(found.place)
                rest = (auth_type(found.user, found.password), None)
        return update(self, proxy, *rest)

    module.ClientRequest.update_proxy = update_by_environment


def patch_httpcore(module):
    from copy import copy

    models = sys.modules[module.__name__.split(".")[0] + "._models"]
    pool = getattr(module, "ConnectionPool", None) or module.AsyncConnectionPool
    create = pool.create_connection

    def create_by_proxy(self, origin):
        # Before 1.0.7, a pool has no such member, and its subclass for proxies creates other connections.
        is_direct = getattr(self, "_proxy", self) is None and self._uds is None
        if is_direct and origin.scheme in (b"https", b"wss"):
            proxy = Proxy.of(origin.host.decode("ascii"))
            if proxy is not None:
                self = copy(self)
                self._proxy = models.Proxy(proxy.place, auth=(proxy.user, proxy.password))
        return create(self, origin)

    pool.create_connection = create_by_proxy


def patch_certifi(module):
    where, contents = module.where, module.contents

    def bundle():
        path = os.environ.get("SSL_CERT_FILE")
        return path if path and os.path.isfile(path) else None

    def contents_of_bundle():
        path = bundle()
        if path is None:
            return contents()
        with open(path, encoding="utf-8") as file:
            return file.read()

    module.where = lambda: bundle() or where()
    module.contents = contents_of_bundle


PATCHES = {
    "http.client": patch_http_client,
    "urllib3.connection": patch_http_client,
    "aiohttp.client_reqrep": patch_aiohttp,
    "httpcore._sync.connection_pool": patch_httpcore,
    "httpcore._async.connection_pool": patch_httpcore,
    "httpcore2._sync.connection_pool": patch_httpcore,
    "httpcore2._async.connection_pool": patch_httpcore,
    "certifi.core": patch_certifi,
}


class Finder(object):
    """Finds the modules of PATCHES as Python does, and changes each when it has run."""

    def find_spec(self, name, path=None, target=None):
        # A package may contain a copy of another one: `pip._vendor.urllib3.connection`.
        known = name.split("._vendor.")[-1].split(".packages.")[-1]
        patch = PATCHES.get(known)
        if patch is None:
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec = None if finder is self or find is None else find(name, path, target)
            if spec is not None:
                break
        else:
            return None
        execute = getattr(spec.loader, "exec_module", None)
        if execute is None:
            return spec

        def execute_and_patch(module):
            execute(module)
            if module.__name__ != name:
                return
            try:
                patch(module)
            except Exception:
                # Another version of the library: it does what it does without this file.
                pass

        try:
            spec.loader.exec_module = execute_and_patch
        except AttributeError:
            pass
        return spec


def run_next():
    """Runs the sitecustomize that this file hides, such as that of a distribution."""
    own = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.abspath(path or os.curdir) != own]
    from importlib.machinery import PathFinder

    spec = PathFinder.find_spec(__name__, sys.path)
    if spec is None or spec.loader is None:
        return
    from importlib.util import module_from_spec

    module = module_from_spec(spec)
    sys.modules[__name__] = module
    spec.loader.exec_module(module)


if sys.version_info >= (3, 6):
    sys.meta_path.insert(0, Finder())
    run_next()

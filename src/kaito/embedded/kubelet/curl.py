"""A small curl for machines that have none: `python -I curl.py [options] URL`.

Options: -X -H -d --data --data-raw --data-binary -G -A -o -O -i -I -s -S -f -v -L -k -m --max-time -N -w (only
%{http_code}) --json. Plain HTTP and HTTPS, the proxy of http_proxy/https_proxy, streamed output. Standard library only.
"""

import getopt
import http.client
import os
import ssl
import sys
import urllib.error
import urllib.parse
import urllib.request

SHORT = "X:H:d:GA:o:OiIsSfvLkm:Nw:"
LONG = [
    "request=", "header=", "data=", "data-raw=", "data-binary=", "json=", "get", "user-agent=", "output=",
    "remote-name", "include", "head", "silent", "show-error", "fail", "verbose", "location", "insecure",
    "max-time=", "no-buffer", "write-out=", "url=",
]  # fmt: skip
ALIASES = {
    "--request": "-X", "--header": "-H", "--data": "-d", "--get": "-G", "--user-agent": "-A", "--output": "-o",
    "--remote-name": "-O", "--include": "-i", "--head": "-I", "--silent": "-s", "--show-error": "-S", "--fail": "-f",
    "--verbose": "-v", "--location": "-L", "--insecure": "-k", "--max-time": "-m", "--no-buffer": "-N",
    "--write-out": "-w",
}  # fmt: skip
REDIRECTS = 50
CODES = {
    "usage": 2,
    "url": 3,
    "resolve": 6,
    "connect": 7,
    "partial": 18,
    "http": 22,
    "timeout": 28,
    "tls": 35,
}


class Failed(Exception):
    """Ends the program with one of curl's exit codes."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.code = CODES[kind]


class Options:
    """The command line, parsed."""

    def __init__(self, arguments: "list[str]") -> None:
        try:
            pairs, urls = getopt.gnu_getopt(arguments, SHORT, LONG)
        except getopt.GetoptError as error:
            raise Failed("usage", f"option {error.opt}: {error.msg} (this is the small curl)") from error
        self.values: dict[str, str] = {}
        self.headers: list[tuple[str, str]] = []
        data: list[bytes] = []
        for name, value in pairs:
            name = ALIASES.get(name, name)
            if name == "-H":
                key, _, text = value.partition(":")
                self.headers.append((key.strip(), text.strip()))
            elif name in ("-d", "--data-raw", "--data-binary", "--json"):
                data.append(read_data(name, value))
                if name == "--json":
                    self.headers += [("Content-Type", "application/json"), ("Accept", "application/json")]
            elif name == "--url":
                urls.append(value)
            else:
                self.values[name] = value
        if not urls:
            raise Failed("usage", "no URL specified")
        self.urls = urls
        self.data = b"&".join(data) if data else None

    def has(self, name: str) -> bool:
        return name in self.values


def read_data(name: str, value: str) -> bytes:
    if name == "--data-raw" or not value.startswith("@"):
        return value.encode()
    with sys.stdin.buffer if value == "@-" else open(value[1:], "rb") as file:  # noqa: PTH123 - starts faster without pathlib
        data = file.read()
    return data if name in ("--data-binary", "--json") else data.replace(b"\r", b"").replace(b"\n", b"")


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


def make_request(options: Options, url: str) -> urllib.request.Request:
    if "://" not in url:
        url = "http://" + url
    data = options.data
    if options.has("-G") and data is not None:
        url, data = url + ("&" if "?" in url else "?") + data.decode(), None
    method = options.values.get("-X") or (
        "HEAD" if options.has("-I") else "POST" if data is not None else "GET"
    )
    request = urllib.request.Request(url, data=data, method=method)
    request.add_header("User-Agent", options.values.get("-A", "curl/8 (kaito)"))
    request.add_header("Accept", "*/*")
    for key, value in options.headers:
        request.add_header(key, value)
    return request


def fetch(options: Options, url: str) -> int:
    """One transfer; the HTTP status."""
    context = ssl.create_default_context()
    if options.has("-k"):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    handlers: list[urllib.request.BaseHandler] = [urllib.request.HTTPSHandler(context=context)]
    if not options.has("-L"):
        handlers.append(NoRedirect())
    request = make_request(options, url)
    if options.has("-v"):
        sys.stderr.write(f"> {request.get_method()} {request.selector} HTTP/1.1\n> Host: {request.host}\n")
        sys.stderr.writelines(f"> {key}: {value}\n" for key, value in request.header_items())
        sys.stderr.write(">\n")
    timeout = float(options.values["-m"]) if options.has("-m") else None
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=timeout) as response:
            return show(options, response, url)
    except urllib.error.HTTPError as response:
        if options.has("-f"):
            raise Failed("http", f"The requested URL returned error: {response.code}") from response
        with response:
            return show(options, response, url)
    except TimeoutError as error:
        raise Failed("timeout", f"Operation timed out after {timeout:g} s") from error
    except urllib.error.URLError as error:
        raise Failed(kind_of(error.reason), f"{request.host}: {error.reason}") from error
    except (http.client.HTTPException, OSError) as error:
        raise Failed("partial", f"{request.host}: {error!r}") from error
    except ValueError as error:
        raise Failed("url", str(error)) from error


def kind_of(reason: object) -> str:
    if isinstance(reason, TimeoutError):
        return "timeout"
    if isinstance(reason, ssl.SSLError):
        return "tls"
    return "resolve" if "not known" in str(reason) or "Name or service" in str(reason) else "connect"


def show(options: Options, response: "http.client.HTTPResponse | urllib.error.HTTPError", url: str) -> int:
    """Write the answer where it belongs, as it comes."""
    status = response.status or 0
    lines = [
        f"HTTP/1.1 {status} {response.reason}",
        *(f"{k}: {v}" for k, v in response.headers.items()),
        "",
        "",
    ]
    head = "\r\n".join(lines).encode()
    if options.has("-v"):
        sys.stderr.writelines(f"< {line}\n" for line in lines[:-1])
    name = options.values.get("-o")
    if options.has("-O"):
        name = os.path.basename(urllib.parse.urlsplit(url).path)  # noqa: PTH119 - starts faster without pathlib
    with open(name, "wb") if name and name != "-" else os.fdopen(os.dup(1), "wb") as out:  # noqa: PTH123 - starts faster without pathlib
        if options.has("-i") or options.has("-I"):
            out.write(head)
        while chunk := response.read1(65536) if hasattr(response, "read1") else response.read(65536):
            out.write(chunk)
            out.flush()
    if options.has("-w"):
        text = options.values["-w"].replace("\\n", "\n").replace("%{http_code}", str(status))
        sys.stdout.write(text)
        sys.stdout.flush()
    return status


def main(arguments: "list[str]") -> int:
    silent = False
    try:
        options = Options(arguments)
        silent = options.has("-s") and not options.has("-S")
        for url in options.urls:
            fetch(options, url)
    except Failed as error:
        if not silent:
            sys.stderr.write(f"curl: ({error.code}) {error}\n")
        return error.code
    except BrokenPipeError:
        return 23
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

//! A service that probes its sandbox: each path does one thing that a host must carry, bound or refuse.
//!
//! | path | what happens |
//! |---|---|
//! | `/` | says that it is the probe |
//! | `/count` | counts the requests of this instance: 1 when each has a fresh one |
//! | `/echo` | streams the request's body back |
//! | `/headers` | the request's headers, one `name: value` a line, in the order received |
//! | `/target` | the request's scheme, authority and path with its query |
//! | `/trailers` | a body, then the trailer `x-after: the body` |
//! | `/request-trailers` | the request's body, and its trailers, one `name: value` a line |
//! | `/grpc` | sends back one gRPC message, then the trailer `grpc-status: 0` |
//! | `/events?n=N` | N server-sent events, 50 ms apart |
//! | `/status?code=N` | answers with that status |
//! | `/bytes?n=N` | answers with N bytes `x`, without a length |
//! | `/random?n=N` | N random bytes in hex |
//! | `/sleep?ms=N` | waits on the host's clock |
//! | `/log?lines=N` | N lines to standard output, N to standard error |
//! | `/env`, `/args` | environment variables as `NAME=value`, sorted; arguments |
//! | `/config[?key=NAME]` | every setting as `NAME=value`, sorted; the value of one, or a 404 |
//! | `/files[?read=PATH]` | folders it was given; what reading a file gives |
//! | `/sockets?to=HOST:PORT` | what connecting gives |
//! | `/outbound?url=URL` | what a request gives: the status on a line of its own, then the body, then its trailers |
//! | `/calls?n=N&url=URL` | N such requests, one after the other; a 502 at the first that is no 200 of the first one's body |
//! | `/spin`, `/recurse`, `/panic` | runs forever; out of stack; traps |
//! | `/alloc?mb=N` | allocates and touches N MiB |
//! | `/no-response`, `/trap-after-headers`, `/trap-after-part` | ends without an answer, or amid one |
//!
//! A missing number is a 400. What the host refuses is a 502 whose body starts with `refused: `. Values in the query are
//! taken as they are, not decoded.

mod answer;
mod bindings;
mod hostile;
mod reach;
mod streams;
mod traffic;

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

struct Probe;

wasip2::http::proxy::export!(Probe);

impl wasip2::exports::http::incoming_handler::Guest for Probe {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let query = Query(query);
        match path {
            "/" => answer::text(out, 200, "probe\n"),
            "/count" => traffic::count(out),
            "/echo" => traffic::echo(&request, out),
            "/headers" => traffic::headers(&request, out),
            "/target" => traffic::target(&request, out),
            "/trailers" => streams::trailers(out),
            "/request-trailers" => streams::request_trailers(&request, out),
            "/grpc" => streams::grpc(&request, out),
            "/events" => query.number("n", out, streams::events),
            "/status" => query.number("code", out, traffic::status),
            "/bytes" => query.number("n", out, traffic::bytes),
            "/random" => query.number("n", out, traffic::random),
            "/sleep" => query.number("ms", out, traffic::sleep),
            "/log" => query.number("lines", out, traffic::log),
            "/env" => reach::env(out),
            "/config" => reach::config(query.text("key"), out),
            "/args" => reach::args(out),
            "/files" => reach::files(query.text("read"), out),
            "/sockets" => reach::sockets(query.text("to").unwrap_or("127.0.0.1:80"), out),
            "/outbound" => reach::outbound(query.text("url").unwrap_or("http://127.0.0.1/"), out),
            "/calls" => query.number("n", out, |n, out| reach::calls(n, query.text("url").unwrap_or_default(), out)),
            "/spin" => hostile::spin(),
            "/recurse" => answer::text(out, 200, &format!("{}\n", hostile::recurse(u64::MAX))),
            "/panic" => panic!("the probe was asked to panic"),
            "/alloc" => query.number("mb", out, hostile::alloc),
            "/no-response" => drop(out),
            "/trap-after-headers" => hostile::trap_amid(out, b""),
            "/trap-after-part" => hostile::trap_amid(out, b"part of an answer\n"),
            _ => answer::text(out, 404, &format!("no such probe: {path}\n")),
        }
    }
}

struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    fn text(&self, name: &str) -> Option<&'a str> {
        let pairs = self.0.split('&').filter_map(|pair| pair.split_once('='));
        pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    fn number(&self, name: &str, out: ResponseOutparam, probe: impl FnOnce(u64, ResponseOutparam)) {
        match self.text(name).and_then(|value| value.parse().ok()) {
            Some(number) => probe(number, out),
            None => answer::text(out, 400, &format!("the query needs a number: {name}=N\n")),
        }
    }
}

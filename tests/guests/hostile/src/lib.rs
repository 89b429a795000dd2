//! A service that attacks its host: each path is one attack, which the host must bound, refuse or survive, and with a
//! smaller number in the query its benign twin. The whole list with what each must come to is in `tests/tests/hostile`.
//!
//! What is not an attack is the probe's. A missing number is a 400. What the host refuses and the guest is told of is a
//! 502 whose body starts with `refused: `.

mod answer;
mod bodies;
mod compute;
mod handles;
mod headers;
mod logs;
mod memory;
mod reach;

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

struct Hostile;

wasip2::http::proxy::export!(Hostile);

impl wasip2::exports::http::incoming_handler::Guest for Hostile {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let query = Query(query);
        match path {
            "/" => answer::text(out, 200, "hostile\n"),
            // Processor time and stacks.
            "/spin" => compute::spin(),
            "/work" => query.number("ms", out, compute::work),
            "/work-and-drop" => query.number("ms", out, compute::work_and_drop),
            "/spin-after-part" => compute::spin_after_part(out),
            "/clock-loop" => compute::clock_loop(),
            "/clocks" => query.number("n", out, compute::clocks),
            "/random-loop" => compute::random_loop(),
            "/random" => query.number("n", out, compute::random),
            "/recurse" => query.number("depth", out, compute::recurse),
            "/recurse-host" => query.number("depth", out, compute::recurse_host),
            "/sleep" => query.number("ms", out, compute::sleep),
            "/work-after-response" => query.number("ms", out, compute::work_after_response),
            "/panic" => panic!("the guest was asked to panic"),
            "/exit" => query.number("code", out, compute::exit),
            // Memory.
            "/grow" => query.number("mb", out, memory::grow),
            "/grow-slowly" => query.number("mb", out, memory::grow_slowly),
            "/hold" => query.number("mb", out, |mb, out| memory::hold(mb, query.text("ms"), out)),
            // Handles.
            "/leak-fields" => query.number("n", out, handles::leak_fields),
            "/leak-responses" => query.number("n", out, handles::leak_responses),
            "/leak-pollables" => query.number("n", out, handles::leak_pollables),
            "/poll" => query.number("n", out, handles::poll),
            "/poll-one" => query.number("n", out, handles::poll_one),
            "/foreign-handle" => handles::foreign(out),
            "/answer-twice" => handles::answer_twice(out),
            // Responses.
            "/drop-out" => drop(out),
            "/error-code" => answer::error_code(out),
            "/status" => query.number("code", out, answer::status),
            "/headers" => query.number("n", out, |n, out| headers::many(n, query.text("bytes"), out)),
            "/forbidden" => headers::forbidden(out),
            "/invalid-headers" => headers::invalid(out),
            "/seen" => headers::seen(&request, out),
            "/lengths" => headers::lengths(out),
            // Bodies.
            "/endless" => bodies::endless(out),
            "/bytes" => query.number("n", out, bodies::bytes),
            "/promise" => query.number("n", out, |n, out| bodies::promise(n, query.text("sent"), out)),
            "/drip" => query.number("ms", out, bodies::drip),
            "/trailers" => query.number("n", out, bodies::trailers),
            "/unfinished" => bodies::unfinished(out),
            "/trap-after-part" => bodies::trap_after_part(out),
            "/read" => bodies::read(&request, out),
            "/ignore" => answer::text(out, 200, "not read\n"),
            "/echo" => bodies::echo(&request, out),
            // Logs.
            "/log-flood" => query.number("ms", out, logs::flood),
            "/log-unended" => query.number("mb", out, logs::unended),
            "/log-garbage" => logs::garbage(out),
            // What is not granted.
            "/outbound" => reach::outbound(query.text("url").unwrap_or_default(), out),
            "/fetch" => reach::fetch(query.text("url").unwrap_or_default(), out),
            "/forward" => reach::forward(&request, query.text("url").unwrap_or_default(), out),
            "/cycle" => reach::cycle(query.text("host").unwrap_or_default(), out),
            "/flood" => query.number("n", out, |n, out| reach::flood(n, query.text("url").unwrap_or_default(), out)),
            "/connect" => reach::connect(query.text("to").unwrap_or_default(), out),
            "/hoard" => query.number("n", out, |n, out| reach::hoard(n, query.text("to").unwrap_or_default(), out)),
            "/resolve" => reach::resolve(query.text("name").unwrap_or_default(), out),
            "/open" => reach::open(query.text("path").unwrap_or_default(), out),
            _ => answer::text(out, 404, &format!("no such attack: {path}\n")),
        }
    }
}

struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    fn text(&self, name: &str) -> Option<&'a str> {
        let pairs = self.0.split('&').filter_map(|pair| pair.split_once('='));
        pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    fn number(&self, name: &str, out: ResponseOutparam, attack: impl FnOnce(u64, ResponseOutparam)) {
        match number(self.text(name)) {
            Some(number) => attack(number, out),
            None => answer::text(out, 400, &format!("the query needs a number: {name}=N\n")),
        }
    }
}

fn number(text: Option<&str>) -> Option<u64> {
    text?.parse().ok()
}

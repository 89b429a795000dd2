//! Guests that compute for ever, on either side of the host's door, that run out of stack, or that end oddly.

use crate::case::{Case, Lane, case};
use crate::client::{get, get_patiently, text};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("an infinite loop, without any limit of time", get_patiently("patient", "/spin"), "504 guest-cpu-limit")
            .lane(Lane::Waiting)
            .logs("patient", "the guest computed for more than 10000 ms")
            .event("patient", "CpuLimit", "the guest computed for more than 10000 ms")
            .twin(get("patient", "/work?ms=2000"), "200")
            .within(500),
        case("an infinite loop in the handler", get("quick", "/spin"), "504 first-byte-timeout")
            .logs("quick", "a request got 504 Gateway Timeout")
            .event("quick", "TimedOut", "see http.timeout.firstByte")
            .twin(get("quick", "/work?ms=200"), "200"),
        case("an infinite loop amid the body", get("quick", "/spin-after-part"), "200 cut")
            .cut_off()
            .event("quick", "TimedOut", "the answer was cut off")
            .twin(get("quick", "/bytes?n=100000"), "200"),
        case("an infinite loop of questions for the time", get("quick", "/clock-loop"), "504 first-byte-timeout")
            .twin(get("quick", "/clocks?n=20000"), "200"),
        case("an infinite loop of random bytes", get("quick", "/random-loop"), "504 first-byte-timeout")
            .twin(get("quick", "/random?n=65536"), "200"),
        case("one call for many random bytes", get("told", "/random?n=65537"), "500 guest-trap")
            .trap("host-call")
            .logs("told", "the guest trapped (host-call)")
            .event("told", "GuestTrapped", "the guest trapped (host-call)")
            .twin(get("told", "/random?n=65536"), "200"),
        case("one call for all random bytes", get("plain", "/random?n=18446744073709551615"), "500 guest-trap")
            .trap("host-call")
            .twin(get("plain", "/random?n=65536"), "200"),
        case("recursion without end", get("told", "/recurse?depth=18446744073709551615"), "500 guest-trap")
            .trap("stack-overflow")
            .logs("told", "the guest trapped (stack-overflow)")
            .event("told", "GuestTrapped", "the guest trapped (stack-overflow)")
            .twin(get("told", "/recurse?depth=1000"), "200"),
        case("recursion that ends in a host call", get("plain", "/recurse-host?depth=100000000"), "500 guest-trap")
            .trap("stack-overflow")
            .twin(get("plain", "/recurse-host?depth=1000"), "200"),
        case("a panic", get("told", "/panic"), "500 guest-trap")
            .trap("unreachable")
            .logs("told", "the guest was asked to panic")
            .event("told", "GuestTrapped", "the guest trapped (unreachable)")
            .twin(text("told", "/"), "200: hostile"),
        case("exit with a failure", get("told", "/exit?code=1"), "500 guest-trap")
            .trap("exit")
            .logs("told", "it exited with status 1")
            .event("told", "GuestTrapped", "it exited with status 1")
            .twin(get("told", "/"), "200"),
        case("exit with success", get("plain", "/exit?code=0"), "500 guest-trap")
            .trap("exit")
            .logs("plain", "it exited with status 0")
            .twin(get("plain", "/"), "200"),
        case("sleep past the timeout", get("quick", "/sleep?ms=60000"), "504 first-byte-timeout")
            .twin(get("quick", "/sleep?ms=200"), "200")
            .lane(Lane::Waiting),
        case("sleep for ever", get("quick", "/sleep?ms=18446744073709551615"), "504 first-byte-timeout")
            .twin(get("quick", "/sleep?ms=0"), "200")
            .lane(Lane::Waiting),
        case("work after the response", get("plain", "/work-after-response?ms=60000"), "200")
            .logs("plain", "the guest was stopped 10 s after the end of its response")
            .twin(get("plain", "/work-after-response?ms=300"), "200")
            .logs("plain", "worked 300 ms after the response")
            .lane(Lane::Waiting),
    ]
}

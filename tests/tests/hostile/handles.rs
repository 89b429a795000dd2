//! Guests that leak, invent or overuse what the host keeps for them.

use crate::case::{Case, case};
use crate::client::{get, text};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("headers without end are leaked", get("plain", "/leak-fields?n=1000000"), "500 guest-trap")
            .trap("host-call")
            .twin(get("plain", "/leak-fields?n=4000"), "200"),
        case("responses without end are leaked", get("plain", "/leak-responses?n=1000000"), "500 guest-trap")
            .trap("host-call")
            .twin(get("plain", "/leak-responses?n=1000"), "200"),
        case("pollables without end are leaked", get("plain", "/leak-pollables?n=1000000"), "500 guest-trap")
            .trap("host-call")
            .twin(get("plain", "/leak-pollables?n=2000"), "200"),
        case("a poll of nothing", get("plain", "/poll?n=0"), "500 guest-trap")
            .trap("host-call")
            .logs("plain", "empty poll list")
            .twin(text("plain", "/poll?n=1"), "200: 1 of 1 are ready"),
        case("a poll of ten thousand", get("plain", "/poll?n=10000"), "500 guest-trap")
            .trap("host-call")
            .twin(text("plain", "/poll?n=2000"), "200: 1 of 2000 are ready"),
        case("a poll of one thing, millions of times", get("plain", "/poll-one?n=4000000"), "500 guest-trap")
            .trap("host-call")
            .twin(text("plain", "/poll-one?n=1000"), "200: ready 1000 times"),
        case("a handle that was never given", get("plain", "/foreign-handle"), "500 guest-trap")
            .trap("host-call")
            .twin(get("plain", "/leak-fields?n=1"), "200"),
        // The first answer is whole, and the client has it.
        case("two answers to one request", text("plain", "/answer-twice"), "200: first")
            .logs("plain", "unknown handle index")
            .trap("host-call")
            .twin(text("plain", "/"), "200: hostile"),
    ]
}

//! The examples that a newcomer copies, each by its own manifest.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use skiff_tests::{Cluster, Request, guest};

const SHOP: &str = include_str!("../../../../examples/shop/skiff.yaml");

/// A shop with these of its services.
fn shop(parts: &[&str]) -> Cluster {
    let cluster = Cluster::start();
    for part in parts {
        let file = guest(&format!("shop-{part}"));
        cluster.skiff(&["push", &format!("shop/{part}"), file.to_str().unwrap()]).ok();
    }
    let wanted = |document: &&str| {
        document.contains("kind: Namespace") || parts.iter().any(|part| document.contains(&format!("image: {part}\n")))
    };
    cluster.write("shop.yaml", SHOP.split("---\n").filter(wanted).collect::<Vec<_>>().join("---\n"));
    cluster.skiff(&["apply", "--wait", "--timeout", "600s", "-f", "shop.yaml"]).ok();
    cluster
}

fn order(cluster: &Cluster, host: Option<&str>, path: &str, body: &str) -> (u16, String) {
    let request = Request::new(cluster.gateway_addr(), "POST", path).body(body);
    let request = match host {
        Some(host) => request.host(host),
        None => request,
    };
    let answer = request.send().unwrap();
    (answer.status, answer.text())
}

#[test]
fn services_of_a_shop_call_each_other() {
    let cluster = shop(&["catalog", "prices", "orders"]);
    let buy = |body: &str| order(&cluster, Some("orders.shop.localhost"), "/orders", body);
    let sold = r#"{"item":"skiff","count":10,"cents":1080000,"currency":"EUR"}"#;
    assert_eq!(buy(r#"{"item": "skiff", "count": 10}"#), (201, sold.to_owned()));
    for (body, status, said) in [
        (r#"{"item": "boat", "count": 1}"#, 404, "there is no item boat"),
        (r#"{"item": "skiff", "count": 0}"#, 400, "count is 1 to 1000"),
        (r#"{"item": "skiff"}"#, 400, "missing field `count` at line 1 column 17"),
        (r#"{"item": "../x", "count": 1}"#, 400, "letters, digits"),
        ("skiff", 400, "the body does not fit"),
    ] {
        let (got, text) = buy(body);
        assert!(got == status && text.contains(said), "{body}: {got} {text}");
    }
    let wrong = cluster.get_host("orders.shop.localhost", "/orders");
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("POST")));
    assert_eq!(cluster.get_host("orders.shop.localhost", "/nothing").status, 404);
    assert!(cluster.skiff(&["logs", "orders", "-n", "shop"]).ok().stdout.contains("INFO sold 10 skiff"));

    // Without the grant, the same code is refused, and its log says what is missing.
    cluster.write(
        "orders.yaml",
        "kind: Service\nname: orders\nnamespace: shop\nimage: orders\nallow: {services: [prices]}\n",
    );
    cluster.skiff(&["apply", "--wait", "-f", "orders.yaml"]).ok();
    let (status, text) = skiff_tests::eventually("the grant is gone", || {
        let (status, text) = buy(r#"{"item": "skiff", "count": 1}"#);
        (status != 201).then_some((status, text))
    });
    assert_eq!((status, text.as_str()), (500, "internal error\n"));
    let log = cluster.skiff(&["logs", "orders", "-n", "shop"]).ok().stderr;
    assert!(log.contains("catalog.shop.internal/items/skiff: not granted (hint: "), "{log}");
}

#[test]
#[ignore = "long: compiles a JavaScript engine"]
fn the_shops_front_shows_what_the_others_say() {
    let cluster = shop(&["catalog", "prices", "orders", "web"]);
    let page = cluster.get("/shop");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(page.text().contains("<li>Punt &#38; pole (punt): 875.00 EUR</li>"), "{}", page.text());
    let sold = r#"{"item":"punt","count":1,"cents":87500,"currency":"EUR"}"#;
    assert_eq!(order(&cluster, None, "/shop/orders", r#"{"item": "punt", "count": 1}"#), (201, sold.to_owned()));
    assert_eq!(order(&cluster, None, "/shop/orders", "x").0, 400);
    assert_eq!(cluster.get("/shop/nothing").status, 404);
}

#[test]
fn events_come_when_they_happen_and_go_on_where_they_were() {
    let cluster = Cluster::start();
    cluster.skiff(&["push", "feed", guest("feed").to_str().unwrap()]).ok();
    cluster.write("skiff.yaml", include_str!("../../../../examples/feed/skiff.yaml"));
    cluster.skiff(&["apply", "--wait", "-f", "skiff.yaml"]).ok();
    let mut stream = TcpStream::connect(cluster.gateway_addr()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // The second one is an hour away: what is read before that was sent by itself.
    let head = "GET /feed/events?every=3600000 HTTP/1.1\r\nhost: x\r\nlast-event-id: 41\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut seen = Vec::new();
    for line in BufReader::new(stream).lines() {
        seen.push(line.unwrap());
        if seen.last().is_some_and(|line| line.starts_with("data: ")) {
            break;
        }
    }
    assert_eq!(seen.iter().filter(|line| line.contains("text/event-stream")).count(), 1, "{seen:?}");
    assert_eq!(seen[seen.len() - 3..], ["id: 42", "event: tick", "data: {\"count\": 42}"]);
    assert_eq!(cluster.get("/feed/events?every=soon").status, 400);
    assert!(cluster.get("/feed").text().contains("EventSource"));
}

#[test]
#[ignore = "long: compiles a JavaScript engine"]
fn a_javascript_service_answers_as_its_source_says() {
    let cluster = Cluster::start();
    cluster.skiff(&["push", "hello-js", guest("hello-js").to_str().unwrap()]).ok();
    cluster.write("skiff.yaml", include_str!("../../../../examples/hello-js/skiff.yaml"));
    let applied = cluster.skiff(&["apply", "--wait", "--timeout", "600s", "-f", "skiff.yaml"]).ok();
    assert!(applied.stdout.contains("service/hello-js created"), "{applied}");
    let answer = cluster.get("/js");
    assert_eq!((answer.status, answer.text().as_str()), (200, "Hello from Skiff!\n"));
    let refused = Request::new(cluster.gateway_addr(), "POST", "/js").body("x").send().unwrap();
    assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD")));
}

#[test]
fn short_addresses_lead_to_long_ones() {
    const LONG: &str = "https://www.rfc-editor.org/rfc/rfc9110?a=b#c";
    let cluster = Cluster::start();
    cluster.skiff(&["push", "shortener", guest("shortener").to_str().unwrap()]).ok();
    cluster.write("skiff.yaml", include_str!("../../../../examples/shortener/skiff.yaml"));
    cluster.skiff(&["apply", "--wait", "-f", "skiff.yaml"]).ok();
    let shorten = |address: &str| order(&cluster, None, "/s", address);
    assert_eq!(shorten(LONG), (201, "http://127.0.0.1:8080/s/3\n".to_owned()));
    assert_eq!(shorten("http://example.com/\n").1, "http://127.0.0.1:8080/s/4\n");
    for bad in ["", "ftp://x", "https://", "https://a b", "javascript:alert(1)"] {
        assert_eq!(shorten(bad).0, 400, "{bad}");
    }
    for visits in ["0\n", "1\n"] {
        assert_eq!(cluster.get("/s/3/visits").text(), visits);
        let followed = cluster.get("/s/3");
        assert_eq!((followed.status, followed.header("location")), (302, Some(LONG)));
    }
    // The report on it, once and now: what its schedule would start.
    cluster.skiff(&["push", "nightly", guest("nightly").to_str().unwrap()]).ok();
    cluster.write("nightly.yaml", include_str!("../../../../examples/nightly/skiff.yaml"));
    cluster.skiff(&["apply", "-f", "nightly.yaml"]).ok();
    let once = include_str!("../../../../examples/nightly/skiff.yaml").lines().filter(|line| {
        !["schedule", "timeZone", "concurrency", "startingDeadline"].iter().any(|own| line.starts_with(own))
    });
    cluster.write("once.yaml", once.collect::<Vec<_>>().join("\n").replace("name: nightly", "name: now"));
    cluster.skiff(&["apply", "--wait", "-f", "once.yaml"]).ok();
    let report = cluster.skiff(&["logs", "job/now"]).ok().stdout;
    assert_eq!(report, format!("1 links were followed, 2 times\n       2 {LONG}\n"));
    for nobody in ["/s/9", "/s/9/visits", "/s/names", "/s/a%2Fb"] {
        assert_eq!(cluster.get(nobody).status, 404, "{nobody}");
    }
    let base = ["create", "config", "shortener", "--from-literal", "BASE_URL=https://s.example.com", "--replace"];
    assert_eq!(cluster.skiff(&base).ok().stdout, "config/shortener configured\n");
    skiff_tests::eventually("the other base is told", || {
        shorten(LONG).1.starts_with("https://s.example.com/").then_some(())
    });
}

#[test]
#[ignore = "long: compiles a JavaScript engine"]
fn notes_in_typescript_are_checked_and_kept() {
    let cluster = Cluster::start();
    cluster.skiff(&["push", "api-ts", guest("api-ts").to_str().unwrap()]).ok();
    cluster.write("skiff.yaml", include_str!("../../../../examples/api-ts/skiff.yaml"));
    cluster.skiff(&["apply", "--wait", "--timeout", "600s", "-f", "skiff.yaml"]).ok();
    let post = |body: &str| order(&cluster, None, "/notes", body);
    assert_eq!(post(r#"{"text":"buy rope"}"#), (201, r#"{"id":1,"text":"buy rope"}"#.to_owned()));
    assert_eq!(post(r#"{"text":"sell boat"}"#).0, 201);
    assert_eq!((post("x").0, post("{}").0), (400, 422));
    assert_eq!(cluster.get("/notes/2").text(), r#"{"id":2,"text":"sell boat"}"#);
    let delete = Request::new(cluster.gateway_addr(), "DELETE", "/notes/1").send().unwrap();
    assert_eq!((delete.status, cluster.get("/notes/1").status), (204, 404));
    assert_eq!(cluster.get("/notes").text(), r#"[{"id":2,"text":"sell boat"}]"#);
}

#[test]
#[ignore = "long: compiles a JavaScript engine"]
fn a_worker_in_javascript_counts_and_a_module_that_fails_says_where() {
    let cluster = Cluster::start();
    for name in ["worker-js", "worker-ts"] {
        cluster.skiff(&["push", name, guest(name).to_str().unwrap()]).ok();
    }
    cluster.write("js.yaml", include_str!("../../../../examples/worker-js/skiff.yaml"));
    cluster.skiff(&["apply", "--wait", "--timeout", "600s", "-f", "js.yaml"]).ok();
    skiff_tests::eventually("it counts", || {
        cluster.skiff(&["logs", "worker-js"]).ok().stdout.starts_with("beat 1\nbeat 2\n").then_some(())
    });
    // As a job without its bucket, it fails and says so.
    let job = "kind: Job\nname: ts\nimage: worker-ts\nretries: 0\nkeyvalue: [{bucket: other}]\n";
    cluster.write("ts.yaml", job);
    cluster.skiff(&["apply", "--wait", "--timeout", "600s", "-f", "ts.yaml"]).fails_with(8);
    let log = cluster.skiff(&["logs", "job/ts"]).ok().stderr;
    assert!(log.contains("there is no bucket beats (hint: add keyvalue") && log.contains("index.ts:8"), "{log}");
}

//! The examples that a newcomer copies, each by its own manifest.

use skiff_tests::{Cluster, Request, guest};

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

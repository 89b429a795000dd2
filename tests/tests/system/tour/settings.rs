//! `skiff create`: what is made of words and files, and what is refused.

use skiff_tests::Cluster;

use super::{PROBE_HOST, push};

#[test]
fn secrets_and_configs_are_made_replaced_and_kept_while_they_are_named() {
    let cluster = Cluster::start();
    let create = |args: &[&str]| cluster.skiff(&[&["create"], args].concat());
    let made = ["secret", "stripe", "--from-literal", "KEY=-", "--from-literal", "OLD=1"];
    let typed = cluster.skiff_with_input(&[&["create"], &made[..]].concat(), b"hunter2\n").ok();
    assert_eq!(typed.stdout, "secret/stripe created\n");
    let again = create(&["secret", "stripe", "--from-literal", "KEY=x"]).fails_with(5);
    assert!(again.stderr.contains("it is there already (hint: change it with --replace"), "{again}");
    create(&["config", "app", "--from-literal", "REGION=eu"]).ok();
    assert_eq!(create(&["namespace", "shop"]).ok().stdout, "namespace/shop created\n");
    create(&["namespace", "shop"]).fails_with(5);

    push(&cluster, "probe", "probe");
    let app = "kind: Service\nname: probe\nimage: probe\nconfig: [app]\nsecrets: [stripe]\n";
    cluster.write("app.yaml", app);
    cluster.skiff(&["apply", "-f", "app.yaml", "--wait"]).ok();
    let all = || cluster.get_host(PROBE_HOST, "/config").text();
    assert_eq!(all(), "KEY=hunter2\nOLD=1\nREGION=eu\n");
    // What is replaced has these keys and no others, whoever wrote the ones before.
    let replace = ["secret", "stripe", "--from-literal", "KEY=new", "--replace"];
    assert_eq!(create(&replace).ok().stdout, "secret/stripe configured\n");
    assert_eq!(create(&replace).ok().stdout, "secret/stripe unchanged\n");
    skiff_tests::eventually("the new value is told", || (all() == "KEY=new\nREGION=eu\n").then_some(()));

    let clash = create(&["config", "app", "--from-literal", "KEY=y", "--replace"]).fails_with(4);
    assert!(clash.stderr.contains("config app and secret stripe both define KEY"), "{clash}");
    let used = cluster.skiff(&["delete", "secret", "stripe"]).fails_with(5);
    assert!(used.stderr.contains("secret/default/stripe is in use by probe"), "{used}");
    let nobody = create(&["secret", "x", "-n", "nowhere", "--from-literal", "A=b"]).fails_with(3);
    assert!(nobody.stderr.contains("nowhere"), "{nobody}");
    // What one file has goes in an order that works.
    cluster.write("all.yaml", format!("kind: Config\nname: app\ndata: {{REGION: eu}}\n---\n{app}"));
    cluster.skiff(&["delete", "-f", "all.yaml"]).ok();
    cluster.skiff(&["delete", "secret", "stripe"]).ok();
}

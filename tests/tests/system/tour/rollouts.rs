//! `skiff rollout`, `ps` and `rm`: back to what was there before, the same once more, and docker's words.

use skiff_tests::{Cluster, eventually};

use super::push;
use super::updates::{APP, under_load};

fn words(text: &str) -> Vec<Vec<&str>> {
    text.lines().map(|line| line.split_whitespace().collect()).collect()
}

#[test]
fn back_and_again_without_a_lost_request() {
    let cluster = Cluster::start();
    cluster.write("app.yaml", APP);
    push(&cluster, "app", "hello");
    cluster.skiff(&["apply", "-f", "app.yaml", "--wait"]).ok();
    let nothing = cluster.skiff(&["rollout", "undo", "app"]).fails_with(3);
    assert!(nothing.stderr.contains("no other revision") && nothing.stderr.contains("these are kept: 1"), "{nothing}");

    push(&cluster, "app", "probe");
    cluster.write("app.yaml", format!("{APP}env: {{LOG: info}}\n"));
    cluster.skiff(&["apply", "-f", "app.yaml"]).ok();
    let told = cluster.skiff(&["rollout", "status", "app"]).ok().stdout;
    assert!(told.ends_with("service/app is rolled out\n"), "{told}");
    eventually("the second image answers alone", || (cluster.get("/").text() == "probe\n").then_some(()));
    let history = cluster.skiff(&["rollout", "history", "service/app"]).ok().stdout;
    let rows = words(&history);
    assert_eq!(rows[0], ["REVISION", "IMAGE", "AGE", "CHANGED"]);
    assert_eq!((rows[1][0], rows[1].len()), ("1", 3), "{history}");
    assert_eq!((rows[2][0], &rows[2][3..]), ("2", &["image,", "env.LOG"][..]), "{history}");
    let one = cluster.skiff(&["rollout", "history", "app", "--revision", "2"]).ok().stdout;
    assert!(one.contains("app-2") && one.contains("LOG"), "{one}");

    let (undone, _) = under_load(&cluster, || {
        let undone = cluster.skiff(&["rollout", "undo", "app"]).ok().stdout;
        cluster.skiff(&["rollout", "status", "app"]).ok();
        undone
    });
    assert_eq!(undone, "service/app rolled back to revision 1\n");
    eventually("the first image answers alone", || (cluster.get("/").text() == "Hello from Skiff!\n").then_some(()));
    // What it goes back to is a revision of its own, and the one before that is the second.
    let status = cluster.skiff(&["rollout", "status", "app", "--no-wait"]).ok().stdout;
    assert_eq!(status, "service/app is rolled out\n");
    let same = cluster.skiff(&["rollout", "undo", "app", "--to-revision", "3"]).ok().stdout;
    assert_eq!(same, "service/app unchanged: it is as revision 3 was\n");
    assert_eq!(cluster.skiff(&["rollout", "undo", "app"]).ok().stdout, "service/app rolled back to revision 2\n");
    cluster.skiff(&["rollout", "status", "app"]).ok();
    cluster.skiff(&["rollout", "undo", "app", "--to-revision", "9"]).fails_with(3);

    let names = || cluster.skiff(&["ps", "-q"]).ok().stdout;
    let before = names();
    let (restarted, asked) = under_load(&cluster, || {
        let restarted = cluster.skiff(&["rollout", "restart", "app"]).ok().stdout;
        cluster.skiff(&["rollout", "status", "app"]).ok();
        restarted
    });
    assert_eq!(restarted, "service/app restarted\n");
    assert!(asked > 0);
    eventually("both replicas are others", || {
        let now = names();
        (now.lines().count() == 2 && now.lines().all(|name| !before.contains(name))).then_some(())
    });
    // The file that never named a restart leaves it alone.
    let again = cluster.skiff(&["apply", "-f", "app.yaml"]).ok().stdout;
    assert_eq!(again, "service/app unchanged\n");
}

#[test]
fn what_runs_is_listed_and_removed_as_docker_does() {
    let cluster = Cluster::start();
    push(&cluster, "app", "hello");
    cluster.write("app.yaml", APP);
    cluster.skiff(&["apply", "-f", "app.yaml", "--wait"]).ok();
    let listed = cluster.skiff(&["ps"]).ok().stdout;
    let rows = words(&listed);
    assert_eq!(rows[0], ["REPLICA", "SERVICE", "IMAGE", "CREATED", "STATUS", "NODE"]);
    assert_eq!((rows.len(), rows[1][1], rows[1][4]), (3, "app", "Up"), "{listed}");
    assert!(rows[1][2].starts_with("app@"), "{listed}");

    // One that cannot start is no replica that runs.
    cluster.write("small.yaml", "kind: Service\nname: small\nimage: app\ninstance: {memory: 64Ki}\n");
    cluster.skiff(&["apply", "-f", "small.yaml"]).ok();
    eventually("it has failed", || cluster.skiff(&["ps", "-a"]).stdout.contains("Failed").then_some(()));
    assert!(!cluster.skiff(&["ps"]).ok().stdout.contains("small"));
    assert_eq!(cluster.skiff(&["rm", "small"]).ok().stdout, "service/small deleted\n");

    let refused = cluster.skiff(&["rm", "app", "nope"]).fails_with(3);
    assert!(refused.stderr.contains("2 of its replicas run") && refused.stderr.contains("rm -f app"), "{refused}");
    assert!(refused.stderr.contains("service/default/nope does not exist"), "{refused}");
    assert_eq!(cluster.skiff(&["rm", "-f", "app"]).ok().stdout, "service/app deleted\n");
    eventually("nothing runs", || (words(&cluster.skiff(&["ps"]).stdout).len() == 1).then_some(()));
}

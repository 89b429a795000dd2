//! Buckets in a real Redis: its own values, a password, what a namespace grants, and a server that goes away.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use skiff_tests::programs::program;
use skiff_tests::{Cluster, eventually};

use super::push;

const HOST: &str = "keeper.default.localhost";
const PASSWORD: &str = "correct horse battery staple";

/// A server of this test's own, which ends with it.
struct Redis {
    server: Child,
    client: PathBuf,
    folder: tempfile::TempDir,
    port: u16,
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

fn serve(folder: &Path, port: u16) -> Child {
    let mut command = Command::new(program("redis-server", "redis-server"));
    command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "yes"]);
    command.args(["--requirepass", PASSWORD, "--daemonize", "no", "--dir"]).arg(folder);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

impl Redis {
    fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let client = program("redis-cli", "redis-tools");
        let redis = Self { server: serve(folder.path(), port), client, folder, port };
        redis.until_up();
        redis
    }

    fn until_up(&self) {
        eventually("the Redis answers", || (self.ask(&["PING"]) == "PONG").then_some(()));
    }

    fn ask(&self, args: &[&str]) -> String {
        let mut command = Command::new(&self.client);
        command.args(["-p", &self.port.to_string(), "-n", "3"]).args(args).env("REDISCLI_AUTH", PASSWORD);
        String::from_utf8(command.output().unwrap().stdout).unwrap().trim().to_owned()
    }

    fn kill(&mut self) {
        drop(self.server.kill());
        drop(self.server.wait());
    }

    fn restart(&mut self) {
        self.server = serve(self.folder.path(), self.port);
        self.until_up();
    }
}

fn ask(cluster: &Cluster, query: &str) -> String {
    cluster.get_host(HOST, &format!("/keyvalue?bucket=shared&{query}")).text().trim_end().to_owned()
}

fn manifest(redis: &Redis) -> String {
    format!(
        "kind: Service\nname: keeper\nimage: keeper\nreplicas: 2\nsecrets: [redis]\nkeyvalue:\n- bucket: shared\n  redis: redis://127.0.0.1:{}/3\n  passwordKey: PASSWORD\n  prefix: \"a*b:\"\n",
        redis.port
    )
}

#[test]
fn values_are_in_a_redis_and_others_see_them() {
    let mut redis = Redis::start();
    let cluster = Cluster::start();
    push(&cluster, "keeper", "keeper");
    let secret = format!("PASSWORD={PASSWORD}");
    cluster.skiff(&["create", "secret", "redis", "--from-literal", &secret]).ok();
    cluster.write("app.yaml", manifest(&redis));
    let refused = cluster.skiff(&["apply", "-f", "app.yaml"]).fails_with(6);
    let grant = format!("allow: {{tcp: [\"127.0.0.1:{}\"]}}", redis.port);
    assert!(refused.stderr.contains("keyvalue[0].redis") && refused.stderr.contains(&grant), "{refused}");
    cluster.write("namespace.yaml", format!("kind: Namespace\nname: default\n{grant}\n"));
    let applied = cluster.skiff(&["apply", "-f", "namespace.yaml", "-f", "app.yaml", "--wait"]).ok();
    assert!(!applied.stderr.contains("control plane"), "it is not needed: {applied}");
    let described = cluster.skiff(&["describe", "service", "keeper"]).ok().stdout;
    assert!(described.contains(&format!("shared (redis://127.0.0.1:{}/3)", redis.port)), "{described}");

    assert_eq!(ask(&cluster, "do=get&key=k"), "none");
    assert_eq!(ask(&cluster, "do=set&key=k&value=v"), "set");
    assert_eq!((redis.ask(&["GET", "a*b:k"]), ask(&cluster, "do=exists&key=k")), ("v".to_owned(), "true".to_owned()));
    redis.ask(&["SET", "a*b:other", "theirs"]);
    assert_eq!(ask(&cluster, "do=get&key=other"), "theirs");
    assert_eq!(ask(&cluster, "do=add&key=n&value=5&n=3"), "15");
    assert!(ask(&cluster, "do=add&key=k").contains("not an integer"), "{}", ask(&cluster, "do=add&key=k"));
    assert_eq!(ask(&cluster, "do=update&key=s&value=mine"), "none, meanwhile");
    assert_eq!(ask(&cluster, "do=get&key=s"), "mine");
    assert_eq!(ask(&cluster, "do=many"), "a=1 b=none");
    // A key that the prefix would match if it were a pattern, and many that it does not.
    redis.ask(&["SET", "axb:no", "1"]);
    redis.ask(&["EVAL", "for i = 1, 5000 do redis.call('SET', 'noise' .. i, i) end", "0"]);
    let mut keys: Vec<String> = ask(&cluster, "do=keys").split(',').map(str::to_owned).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys, ["a", "k", "n", "other", "s"]);
    assert_eq!(ask(&cluster, "do=delete&key=other"), "deleted");
    assert_eq!(redis.ask(&["EXISTS", "a*b:other"]), "0");
    // More than an answer may have loses nothing but that answer.
    redis.ask(&["EVAL", "redis.call('SET', 'a*b:huge', string.rep('x', 50000000))", "0"]);
    assert!(
        ask(&cluster, "do=get&key=huge").contains("more than the 2097152 bytes"),
        "{}",
        ask(&cluster, "do=get&key=huge")
    );
    assert_eq!(ask(&cluster, "do=get&key=k"), "v");

    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| ask(&cluster, "do=add&key=race&value=1&n=250"));
        }
    });
    assert_eq!(ask(&cluster, "do=get&key=race"), "2000");

    redis.kill();
    let away = ask(&cluster, "do=get&key=k");
    assert!(away.contains(&format!("the Redis at 127.0.0.1:{}", redis.port)), "{away}");
    redis.restart();
    eventually("it is used again", || (ask(&cluster, "do=get&key=k") == "v").then_some(()));
}

#[test]
fn mistakes_with_a_redis_are_told_at_once() {
    let cluster = Cluster::start();
    push(&cluster, "keeper", "keeper");
    cluster.skiff(&["create", "secret", "redis", "--from-literal", "OTHER=x"]).ok();
    let refused = |lines: &str| {
        cluster.write("app.yaml", format!("kind: Service\nname: keeper\nimage: keeper\n{lines}\n"));
        cluster.skiff(&["apply", "-f", "app.yaml"]).fails_with(4).stderr
    };
    let with_password = refused("keyvalue: [{bucket: b, redis: \"redis://me:s3cret@cache\"}]");
    assert!(with_password.contains("passwordKey: KEY") && !with_password.contains("s3cret"), "{with_password}");
    let scheme = refused("keyvalue: [{bucket: b, redis: \"http://cache\"}]");
    assert!(scheme.contains("app.yaml:4:") && scheme.contains("redis://HOST:6379/0"), "{scheme}");
    let both = refused("keyvalue: [{bucket: b, scope: node, redis: \"redis://cache\"}]");
    assert!(both.contains("keyvalue[0].scope"), "{both}");
    let alone = refused("keyvalue: [{bucket: b, prefix: x}]");
    assert!(alone.contains("keyvalue[0].prefix"), "{alone}");
    let grant = "kind: Namespace\nname: default\nallow: {tcp: [\"*:*\"]}\n";
    cluster.write("namespace.yaml", grant);
    cluster.skiff(&["apply", "-f", "namespace.yaml"]).ok();
    let no_key = refused("secrets: [redis]\nkeyvalue: [{bucket: b, redis: \"redis://cache\", passwordKey: PASSWORD}]");
    assert!(no_key.contains("no secret of it has the key PASSWORD"), "{no_key}");
    // A password is no Config's.
    cluster.skiff(&["create", "config", "app", "--from-literal", "PASSWORD=x"]).ok();
    let in_config = refused(
        "config: [app]\nsecrets: [redis]\nkeyvalue: [{bucket: b, redis: \"redis://cache\", passwordKey: PASSWORD}]",
    );
    assert!(in_config.contains("no secret of it has the key PASSWORD"), "{in_config}");
    cluster.write("namespace.yaml", "kind: Namespace\nname: default\nallow: {tcp: [cache]}\n");
    let no_port = cluster.skiff(&["apply", "-f", "namespace.yaml"]).fails_with(4).stderr;
    assert!(no_port.contains("it has no port (hint: write HOST:PORT"), "{no_port}");
}

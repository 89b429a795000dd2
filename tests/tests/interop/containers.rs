//! Containers, run by a real engine: they answer like components, are held to their limits by the kernel, come back, are
//! never doubled, and leave nothing.

use std::path::Path;
use std::time::{Duration, Instant};

use skiff_tests::docker::{Docker, Engine, apart, static_program};
use skiff_tests::fleet::load::{Load, Report};
use skiff_tests::{Builder, Cluster, guest, within};

use super::docker::{import, log_in, pushed};

pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// A server: what it is asked for decides what becomes of it. With another first word it crashes, ignores SIGTERM, says
/// whether it is well, copies what it reads, or tells about its terminal.
pub(super) const SERVER: &str = r#"
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 1 && !strcmp(argv[1], "crash")) { puts("out of cheese"); return 3; }
    if (argc > 1 && !strcmp(argv[1], "check")) { if (access("/tmp/ill", F_OK)) return 0; puts("it has a cold"); return 1; }
    if (argc > 1 && !strcmp(argv[1], "copy")) {
        for (int c; (c = getchar()) != EOF;) putchar(c);
        fputs("copied\n", stderr);
        return 5;
    }
    if (argc > 1 && !strcmp(argv[1], "terminal")) {
        struct winsize size = {0};
        for (int i = 0; i < 50 && !size.ws_col; i++) { if (ioctl(0, TIOCGWINSZ, &size)) return 6; usleep(100000); }
        printf("%d: %d x %d\n", isatty(0), size.ws_col, size.ws_row);
        return 0;
    }
    if (argc > 1 && !strcmp(argv[1], "stubborn")) signal(SIGTERM, SIG_IGN); else signal(SIGTERM, _exit);
    signal(SIGPIPE, SIG_IGN);
    int one = 1, server = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(8080) };
    if (bind(server, (void *)&at, sizeof at) || listen(server, 128)) return 4;
    puts("listening");
    for (;;) {
        char ask[4096], say[256]; int client = accept(server, NULL, NULL);
        if (client < 0) continue;
        int count = read(client, ask, sizeof ask - 1);
        ask[count < 0 ? 0 : count] = 0;
        if (!strncmp(ask, "GET /exit", 9)) return 7;
        if (!strncmp(ask, "GET /ws", 7) && strcasestr(ask, "\r\nupgrade: websocket") && strcasestr(ask, "connection: upgrade")) {
            if (fork()) { close(client); continue; }
            dprintf(client, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                "Sec-WebSocket-Accept: %s\r\n\r\nhello ", strcasestr(ask, "sec-websocket-key: a2V5") ? "key" : "no key");
            for (char c; read(client, &c, 1) == 1;) { c = c >= 'a' && c <= 'z' ? c - 32 : c; write(client, &c, 1); if (c == '!') break; }
            _exit(0);
        }
        if (!strncmp(ask, "GET /memory", 11)) for (;;) memset(malloc(1 << 20), 7, 1 << 20);
        if (!strncmp(ask, "GET /fork", 9)) {
            int forks = 0;
            for (; forks < 4000; forks++) { int child = fork(); if (child < 0) break; if (!child) { sleep(5); _exit(0); } }
            snprintf(say, sizeof say, "%d\n", forks);
        } else if (!strncmp(ask, "GET /write", 10)) {
            snprintf(say, sizeof say, "%s%s\n", fopen("/x", "w") ? "root " : "", fopen("/tmp/x", "w") ? "tmp" : "");
        } else if (!strncmp(ask, "GET /spin", 9)) {
            time_t until = time(NULL) + 3; clock_t began = clock(); struct timeval first, last;
            gettimeofday(&first, NULL);
            while (time(NULL) < until) for (volatile int i = 0; i < 1000000; i++);
            gettimeofday(&last, NULL);
            double took = last.tv_sec - first.tv_sec + (last.tv_usec - first.tv_usec) / 1e6;
            snprintf(say, sizeof say, "%.3f\n", (double)(clock() - began) / CLOCKS_PER_SEC / took);
        } else if (!strncmp(ask, "GET /files", 10)) {
            char *paths[] = {"/run/secrets/tls.key", "/run/secrets/TOKEN", "/run/configs/app.conf"}; int at = 0;
            for (int i = 0; i < 3; i++) {
                char text[40] = "none"; FILE *file = fopen(paths[i], "r"), *other = fopen(paths[i], "a");
                if (file) text[fread(text, 1, 39, file)] = 0;
                at += snprintf(say + at, sizeof say - at, "%s%s ", text, other ? " and can be written" : "");
                if (file) fclose(file);
            }
        } else if (!strncmp(ask, "GET /ill", 8)) {
            snprintf(say, sizeof say, "%s\n", fopen("/tmp/ill", "w") ? "ill" : "well");
        } else if (!strncmp(ask, "GET /health", 11)) {
            if (!access("/tmp/ill", F_OK)) { dprintf(client, "HTTP/1.1 503 Ill\r\nContent-Length: 0\r\n\r\n"); close(client); continue; }
            snprintf(say, sizeof say, "well\n");
        } else snprintf(say, sizeof say, "%s\n", getenv("GREETING") ? getenv("GREETING") : "native");
        char answer[512];
        count = snprintf(answer, sizeof answer, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s", strlen(say), say);
        write(client, answer, count);
        close(client);
    }
"#;

pub(super) struct World {
    // A cluster ends before its engine.
    pub(super) cluster: Cluster,
    engine: Engine,
    _folder: tempfile::TempDir,
}

/// Makes an image of a program, and pushes it as `native:1`.
pub(super) fn push(docker: &Docker<'_>, folder: &Path, (registry, token): (&str, &str), program: &str) {
    log_in(docker, registry, token);
    let program = std::fs::read(static_program(folder, "server", program)).unwrap();
    let image = format!("{registry}/default/native:1");
    import(docker, folder, ("server", &program), &image);
    pushed(docker, &image);
    docker.ok(&["rmi", &image]);
}

impl World {
    pub(super) fn new() -> Self {
        Self::of(SERVER)
    }

    /// With that program as `native:1`.
    pub(super) fn of(program: &str) -> Self {
        Self::start(Cluster::builder(), program)
    }

    /// The same of a cluster that is made otherwise.
    pub(super) fn start(cluster: Builder, program: &str) -> Self {
        let (engine, folder) = (Engine::start(), tempfile::tempdir().unwrap());
        let cluster = cluster.arg(&format!("--docker={}", engine.socket().display())).start();
        let world = Self { cluster, engine, _folder: folder };
        let registry = world.cluster.api_addr().to_string();
        push(&world.docker(), world._folder.path(), (&registry, &world.cluster.token()), program);
        world
    }

    pub(super) fn docker(&self) -> Docker<'_> {
        self.engine.docker("tester")
    }

    pub(super) fn apply(&self, name: &str, rest: &str) {
        let file = self.cluster.write(&format!("{name}.yaml"), format!("kind: Service\nname: {name}\n{rest}"));
        self.cluster.skiff(&["apply", "-f", &file]).ok();
    }

    /// The ids of Skiff's containers, those that have ended included.
    pub(super) fn containers(&self) -> Vec<String> {
        let ids = self.docker().ok(&["ps", "--all", "--quiet", "--no-trunc", "--filter", "label=skiff.node"]);
        ids.lines().map(str::to_owned).collect()
    }

    pub(super) fn nothing_is_left(&self) {
        within(PATIENCE, "no container is left", || self.containers().is_empty().then_some(()));
        within(PATIENCE, "no network is left", || {
            self.docker().ok(&["network", "ls", "--quiet", "--filter", "label=skiff.node"]).is_empty().then_some(())
        });
    }

    pub(super) fn eventually_said(&self, what: &[&str], expected: &str) -> String {
        within(PATIENCE, &format!("{what:?} says {expected:?}"), || {
            let said = self.cluster.skiff(what).ok().stdout;
            said.contains(expected).then_some(said)
        })
    }
}

pub(super) const NATIVE: &str = "\
image: native:1
env: {GREETING: hi}
ports: [{port: 8080}]
limits: {memory: 128Mi, cpu: 500m}
http: {routes: [{path: /}]}
";

#[test]
fn a_container_answers_and_is_held_to_its_limits() {
    apart(|| {
        let world = World::new();
        let (cluster, docker) = (&world.cluster, world.docker());
        world.apply("native", NATIVE);
        assert_eq!(cluster.eventually_answers("/", 200).text(), "hi\n");
        let [id] = &world.containers()[..] else { panic!("{:?}", world.containers()) };
        let shape = docker.ok(&[
            "inspect",
            "--format",
            "{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.NanoCpus}} {{.HostConfig.CapDrop}} \
             {{.HostConfig.SecurityOpt}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.Privileged}} {{.NetworkSettings.Ports}}",
            id,
        ]);
        assert_eq!(shape.trim(), "134217728 134217728 500000000 [ALL] [no-new-privileges] true false map[]");
        assert_eq!(cluster.get("/write").text(), "tmp\n", "the root is not to be written to");
        let forks: u32 = cluster.get("/fork").text().trim().parse().unwrap();
        assert!((100..600).contains(&forks), "{forks} forks");
        // It has asked for half a processor, and computes.
        let share: f64 = cluster.get("/spin").text().trim().parse().unwrap();
        assert!((0.05..0.65).contains(&share), "{share} of a processor");
        let node = cluster.skiff(&["get", "nodes", "-o", "json"]).ok().stdout;
        assert!(node.contains("\"docker\": \""), "{node}");
        world.eventually_said(&["logs", "native"], "listening");

        // Killed at the limit, and back.
        assert_eq!(cluster.get("/memory").status, 502);
        world.eventually_said(&["describe", "service", "native"], "limits.memory");
        assert_eq!(cluster.eventually_answers("/", 200).text(), "hi\n");
        within(PATIENCE, "one is left", || (world.containers().len() == 1).then_some(()));
        assert_ne!(world.containers(), [id.as_str()]);

        cluster.skiff(&["delete", "service", "native"]).ok();
        world.nothing_is_left();
    });
}

#[test]
fn what_a_namespace_grants_a_container_may_have() {
    apart(|| {
        let world = World::new();
        let (cluster, docker) = (&world.cluster, world.docker());
        let granted = cluster
            .write("granted.yaml", "kind: Namespace\nname: default\nallow: {privileges: [writableRoot, CHOWN]}\n");
        cluster.skiff(&["apply", "-f", &granted]).ok();
        world.apply("native", &format!("{NATIVE}privileges: [writableRoot, CHOWN]\nuser: \"0:7\"\n"));
        cluster.eventually_answers("/", 200);
        assert_eq!(cluster.get("/write").text(), "root tmp\n");
        let shape = "{{.HostConfig.CapAdd}} {{.HostConfig.CapDrop}} {{.HostConfig.SecurityOpt}} {{.Config.User}}";
        let shape = docker.ok(&["inspect", "--format", shape, &world.containers()[0]]);
        assert_eq!(shape.trim(), "[CHOWN] [ALL] [no-new-privileges] 0:7");
        // What is in use cannot be taken back.
        let taken = cluster.write("taken.yaml", "kind: Namespace\nname: default\nallow: {privileges: [CHOWN]}\n");
        let run = cluster.skiff(&["apply", "-f", &taken]);
        assert!(run.code != Some(0) && run.stderr.contains("native"), "{run}");
        cluster.skiff(&["delete", "service", "native"]).ok();
        world.nothing_is_left();
        cluster.skiff(&["apply", "-f", &taken]).ok();
    });
}

#[test]
fn values_are_files_in_memory_that_go_with_their_container() {
    apart(|| {
        let mut world = World::new();
        world.cluster.skiff(&["create", "secret", "keys", "--from-literal", "tls.key=k3y"]).ok();
        world.cluster.skiff(&["create", "secret", "words", "--from-literal", "TOKEN=t0ken"]).ok();
        world.cluster.skiff(&["create", "config", "app", "--from-literal", "app.conf=loud: yes"]).ok();
        world.apply("native", &format!("{NATIVE}secrets: [keys, words]\nconfig: [app]\n"));
        world.cluster.eventually_answers("/", 200);
        assert_eq!(world.cluster.get("/files").text(), "k3y t0ken loud: yes ");
        let inspected = world.docker().ok(&["inspect", &world.containers()[0]]);
        assert!(!inspected.contains("k3y") && !inspected.contains("t0ken"), "{inspected}");
        let source =
            world.docker().ok(&["inspect", "--format", "{{range .Mounts}}{{.Source}} {{end}}", &world.containers()[0]]);
        let source: Vec<&str> = source.split_whitespace().filter(|path| path.starts_with("/dev/shm/")).collect();
        assert_eq!(source.len(), 2, "{source:?}");
        assert!(source.iter().all(|path| std::fs::exists(path).unwrap()));

        // A node that is killed leaves them, and goes on with them.
        world.cluster.kill9();
        world.cluster.restart();
        world.cluster.eventually_answers("/", 200);
        assert_eq!(world.cluster.get("/files").text(), "k3y t0ken loud: yes ");
        // Those in the environment are no files.
        world.apply("native", &format!("{NATIVE}secrets: [keys, words]\nconfig: [app]\nenvFrom: [words]\n"));
        within(PATIENCE, "another one answers", || {
            (world.cluster.get("/files").text() == "k3y none loud: yes ").then_some(())
        });
        world.cluster.skiff(&["delete", "service", "native"]).ok();
        world.nothing_is_left();
        assert!(!source.iter().any(|path| std::fs::exists(path).unwrap()), "{source:?}");
    });
}

#[test]
fn kills_in_every_order_leave_one_container_and_others_alone() {
    apart(|| {
        let mut world = World::new();
        let registry = world.cluster.api_addr().to_string();
        let other = format!("{registry}/default/native:1");
        world.docker().ok(&["pull", &other]);
        let other = world.docker().ok(&["run", "--detach", "--network", "none", &other]).trim().to_owned();
        world.apply("native", NATIVE);
        world.cluster.eventually_answers("/", 200);
        let first = world.containers();

        // The node's process: its container goes on, and is the same afterwards.
        world.cluster.kill9();
        assert_eq!(world.containers(), first);
        world.cluster.restart();
        world.cluster.eventually_answers("/", 200);
        assert_eq!(world.containers(), first);

        // The container.
        world.docker().ok(&["kill", &first[0]]);
        within(PATIENCE, "another one runs", || {
            let now = world.containers();
            (now.len() == 1 && now != first).then_some(())
        });
        world.cluster.eventually_answers("/", 200);

        // The container, while there is no node.
        let second = world.containers();
        world.cluster.kill9();
        world.docker().ok(&["kill", &second[0]]);
        world.cluster.restart();
        world.cluster.eventually_answers("/", 200);
        assert_eq!(world.containers().len(), 1);

        // The engine, which ends its containers; then with it the node, in both orders.
        for order in ["engine", "engine node", "node engine"] {
            for what in order.split(' ') {
                match what {
                    "engine" => world.engine.restart(),
                    _ => world.cluster.kill9(),
                }
            }
            if order.contains("node") {
                world.cluster.restart();
            }
            within(PATIENCE, order, || (world.cluster.get("/").status == 200).then_some(()));
            within(PATIENCE, "one is left", || (world.containers().len() == 1).then_some(()));
            let other = other.as_str();
            within(PATIENCE, "the other one is there", || {
                let all = world.docker().ok(&["ps", "--all", "--quiet", "--no-trunc"]);
                all.contains(other).then_some(())
            });
        }

        // A container of this node that nobody wants, as a crash in the middle of a deletion leaves it.
        world.cluster.skiff(&["delete", "service", "native"]).ok();
        world.nothing_is_left();
        // Its engine has ended it; it is there all the same.
        let left = world.docker().ok(&["ps", "--all", "--quiet", "--no-trunc"]);
        assert_eq!(left.trim(), other, "what is not Skiff's is left alone");
    });
}

#[test]
fn who_crashes_waits_longer_each_time_and_who_does_not_listen_to_reason_is_killed() {
    apart(|| {
        let world = World::new();
        world.apply("crash", "image: native:1\nargs: [crash]\nports: [{port: 8080}]\n");
        let said = world.eventually_said(&["describe", "service", "crash"], "out of cheese");
        assert!(said.contains("code 3"), "{said}");
        world.cluster.skiff(&["delete", "service", "crash"]).ok();

        world.apply(
            "stubborn",
            "image: native:1\nargs: [stubborn]\nports: [{port: 8080}]\nhttp: {routes: [{path: /}]}\n",
        );
        world.cluster.eventually_answers("/", 200);
        let asked = Instant::now();
        world.cluster.skiff(&["delete", "service", "stubborn"]).ok();
        world.nothing_is_left();
        assert!((8..30).contains(&asked.elapsed().as_secs()), "{:?}", asked.elapsed());
    });
}

#[test]
fn a_component_and_a_container_follow_one_another_without_a_failed_request() {
    apart(|| {
        let world = World::new();
        world.cluster.skiff(&["push", "hello:1", guest("hello").to_str().unwrap()]).ok();
        let common = "http: {routes: [{path: /}]}\nupdate: {healthy: 1s}\n";
        let component = format!("image: hello:1\n{common}");
        let container = format!("image: native:1\nports: [{{port: 8080}}]\n{common}");
        world.apply("both", &component);
        world.cluster.eventually_answers("/", 200);
        let load = Load::at(world.cluster.gateway_addr(), ("any.test", "/"), 500);
        let answers = |expected: &str| {
            world.cluster.skiff(&["rollout", "status", "both"]).ok();
            within(PATIENCE, expected, || (world.cluster.get("/").text() == expected).then_some(()));
        };
        for _ in 0..2 {
            world.apply("both", &container);
            answers("native\n");
            world.apply("both", &component);
            answers("Hello from Skiff!\n");
        }
        let Report { answered, failed, slowest } = load.stop();
        assert!(failed.is_empty(), "{} of {answered}: {:?}", failed.len(), failed.first());
        assert!(answered > 500, "{answered} answers");
        eprintln!(
            "MEASURED: {answered} requests at 500/s while they followed one another, none failed, slowest {slowest:?}"
        );
        world.nothing_is_left();
    });
}

#[test]
fn what_does_not_hold_for_a_container_is_refused() {
    apart(|| {
        let world = World::new();
        world.cluster.skiff(&["push", "hello:1", guest("hello").to_str().unwrap()]).ok();
        let refused = |rest: &str, expected: &str| {
            let file = world.cluster.write("bad.yaml", format!("kind: Service\nname: bad\n{rest}"));
            let run = world.cluster.skiff(&["apply", "-f", &file]);
            assert!(run.code != Some(0) && run.stderr.contains(expected), "{run}");
        };
        refused("image: native:1\nruntime: wasm\n", "holds a container");
        refused("image: hello:1\nruntime: docker\n", "holds a component");
        refused("image: hello:1\nports: [{port: 80}]\n", "ports is for containers");
        refused("image: native:1\nallow: {http: [\"http://10.0.0.5\"]}\n", "it reaches servers by name");
        refused("image: native:1\nallow: {tcp: [\"db.example:443\"]}\n", "names or HTTP servers");
        refused("image: native:1\nallow: {tcp: [\"db.example:5432\"]}\n", "does not grant: allow.tcp[0]");
        refused("image: native:1\nprivileges: [CHOWN]\n", "allow: {privileges: [\"CHOWN\"]}");
        refused("image: native:1\nprivileges: [SYS_ADMIN]\n", "nothing that a container may have");
        refused("image: native:1\nuser: nobody\n", "neither UID nor UID:GID");
        refused("image: hello:1\nuser: \"1\"\n", "user is for containers");
        refused("image: native:1\nvolumes: [{name: a, path: /run/secrets}]\n", "/run/secrets is the container's own");
        refused("image: native:1\ninstance: {requests: 5}\n", "sandboxes");
        refused("image: native:1\nports: [{name: a, port: 1}, {name: b, port: 2}]\n", "called http");
        refused("image: hello:1\nhealth: {port: 80}\n", "health.port is for containers");
        refused("image: hello:1\nhealth: {exec: [ok]}\n", "write health.path");
        refused("image: native:1\nhealth: {path: /}\n", "health.port");
        refused("image: native:1\nhealth: {every: 5s}\n", "what is asked");
    });
}

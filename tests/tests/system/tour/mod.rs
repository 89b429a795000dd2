//! Everything that a tour of the product does, and what must hold meanwhile.
//!
//! - [`examples`]: those in the repository.
//! - [`first_steps`]: push, run, see, read logs, remove; the tools around it.
//! - [`grants`]: what services may reach.
//! - [`health`]: who is not well gets no requests.
//! - [`hono`]: an app of Hono, beside the same under Node.
//! - [`jobs`]: what runs to its end, now or by a schedule.
//! - [`keyvalue`]: values that outlive a request.
//! - [`manifests`]: apply in all its ways, diff, and going round through `get`.
//! - [`projects`]: from `skiff new` to an answer, with the language's own tools.
//! - [`rollouts`]: back to an earlier revision, the same once more; docker's words.
//! - [`settings`]: Configs and Secrets without a manifest.
//! - [`updates`]: another image under load, back again, one that fails; restarts and draining.
//! - [`workers`]: components that run on their own.

mod examples;
mod first_steps;
mod grants;
mod health;
mod hono;
mod jobs;
mod keyvalue;
mod manifests;
mod projects;
mod redis;
mod rollouts;
mod settings;
mod updates;
mod workers;

use skiff_tests::{Cluster, guest};

/// Where the probe answers when it asks for nothing else.
const PROBE_HOST: &str = "probe.default.localhost";

fn push(cluster: &Cluster, image: &str, component: &str) -> String {
    let run = cluster.skiff(&["push", image, guest(component).to_str().unwrap()]).ok();
    let (_, digest) = run.stdout.trim().rsplit_once(' ').unwrap();
    digest.to_owned()
}

fn run_probe(cluster: &Cluster) {
    push(cluster, "probe", "probe");
    cluster.skiff(&["run", "probe"]).ok();
}

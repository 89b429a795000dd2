//! How many requests a second one thread answers with fresh instances, in this process and without a socket.
//!
//! `cargo run -p skiff-host --example throughput -- COMPILED-FILE [SECONDS]`

// A sandbox holds types within types, which is looked through where a future may be moved between threads.
#![recursion_limit = "256"]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use skiff_api::resource::ServiceSpec;
use skiff_host::logs::{Journal, Sink};
use skiff_host::sandbox::{RunnerOptions, Sandbox, SandboxOptions};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let mut args = std::env::args().skip(1);
    let file = args.next().ok_or("usage: throughput COMPILED-FILE [SECONDS]")?;
    let seconds = args.next().map_or(Ok(3), |text| text.parse())?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(measure(&file, seconds))
}

async fn measure(file: &str, seconds: u64) -> Outcome<()> {
    let sandbox = Sandbox::start(SandboxOptions::default())?;
    println!("{:?}", sandbox.report());
    let start = Instant::now();
    let code = sandbox.load(file.as_ref())?;
    println!("first load, with its checksum: {:?}", start.elapsed());
    drop(code);
    let start = Instant::now();
    let code = sandbox.load(file.as_ref())?;
    println!("second load: {:?}", start.elapsed());

    let template = Arc::new(ServiceSpec::new("hello:1".parse()?).template());
    let start = Instant::now();
    let options = RunnerOptions::new(template, Sink::new(Journal::in_memory()));
    let runner = sandbox.prepare(&code, options).await?;
    println!("prepare: {:?}", start.elapsed());

    let request = || Request::get("/").header("host", "hello.test").body(Empty::<Bytes>::new());
    let start = Instant::now();
    runner.call(request()?).await?.into_body().collect().await?;
    println!("first request: {:?}", start.elapsed());
    for _ in 0..3 {
        let (start, mut requests) = (Instant::now(), 0_u64);
        while start.elapsed() < Duration::from_secs(seconds) {
            runner.call(request()?).await?.into_body().collect().await?;
            requests += 1;
        }
        let each = start.elapsed() / u32::try_from(requests)?;
        println!("{requests} requests, {each:?} each");
    }
    Ok(())
}

//! `skiff run IMAGE`: a service without a manifest, or a job that is run to its end and forgotten.

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use serde_json::{Map, Value, json};
use skiff_api::client::Run;
use skiff_api::manifest;
use skiff_api::{ImageRef, Name};

use crate::Outcome;
use crate::args::RunArgs;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::output::row;
use crate::verbs::{once, wait};

pub(super) async fn run(context: &Context, args: RunArgs) -> Outcome {
    let name = match &args.name {
        Some(name) => name.clone(),
        None if args.rm => once_name(&args.image)?,
        None => default_name(&args.image)?,
    };
    let namespace = &args.namespace.namespace;
    if args.interactive && args.tty && !io::stdin().is_terminal() {
        let text = format!("failed to run {}: standard input is no terminal (hint: leave out -t)", args.image);
        return Err(Failure::message(Exit::Invalid, text));
    }
    let flat = flat(&args, &name)?;
    // Through the reader of manifests, so that the same mistakes get the same messages.
    let text = serde_json::to_string(&flat).map_err(|error| Failure::new(Exit::Internal, error))?;
    let mut documents = manifest::read("the command line", &text).map_err(|mut error| {
        (error.line, error.column) = (0, 0);
        Failure::from(error)
    })?;
    let Some(document) = documents.pop() else {
        return Err(Failure::message(Exit::Internal, "the command line became no manifest"));
    };
    let client = context.client()?;
    match client.get_value(document.kind, namespace, name.as_str()).await {
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error.into()),
        Ok(_) => {
            let text = format!(
                "failed to run {}: there is a {kind} {namespace}/{name} already (hint: choose another --name, change it with `skiff apply`, or delete it with `skiff delete {kind} {name}`)",
                args.image,
                kind = document.kind.singular()
            );
            return Err(Failure::message(Exit::Conflict, text));
        }
    }
    let applied = client
        .apply(&document.sparse, Run::Real)
        .await
        .map_err(|error| Failure::from(error).during(format!("failed to run {}", args.image)))?;
    if args.rm {
        let input = if args.interactive { once::Input::Ours } else { once::Input::None };
        return once::run(&client, (namespace, name.as_str()), input, args.timeout.as_duration()).await;
    }
    println!("service/{name} created");
    wait::until_ready(&client, &[(namespace.clone(), name.as_str().to_owned())], args.timeout.as_duration()).await?;
    for route in row::routes(&applied.object) {
        println!("answers at {route}");
    }
    Ok(ExitCode::SUCCESS)
}

/// As many may run at once as there are people who run them.
fn once_name(image: &ImageRef) -> Result<Name, Failure> {
    let name = default_name(image)?;
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).map_err(|error| Failure::message(Exit::Internal, error.to_string()))?;
    let name = name.as_str().chars().take(50).collect::<String>();
    format!("{}-{:08x}", name.trim_end_matches('-'), u32::from_ne_bytes(bytes))
        .parse()
        .map_err(|error: skiff_api::id::InvalidName| Failure::new(Exit::Internal, error))
}

fn default_name(image: &ImageRef) -> Result<Name, Failure> {
    let last = image.repository().rsplit('/').next().unwrap_or_default();
    last.parse().map_err(|_| {
        let text =
            format!("failed to name a service after {image}: {last:?} is not a name (hint: choose one with --name)");
        Failure::message(Exit::Invalid, text)
    })
}

fn flat(args: &RunArgs, name: &Name) -> Result<Value, Failure> {
    let mut env = Map::new();
    for pair in &args.env {
        let Some((key, value)) = pair.split_once('=') else {
            let text = format!("failed to set {pair:?}: there is no '=' (hint: write --env KEY=VALUE)");
            return Err(Failure::message(Exit::Invalid, text));
        };
        env.insert(key.to_owned(), json!(value));
    }
    let mut route = Map::new();
    route.extend(args.host.as_ref().map(|host| ("host".to_owned(), json!(host))));
    route.extend(args.path.as_ref().map(|path| ("path".to_owned(), json!(path))));
    let (namespace, image) = (&args.namespace.namespace, &args.image);
    let mut flat = match args.rm {
        true => json!({
            "kind": "Job", "name": name, "namespace": namespace, "image": image, "retries": 0, "attach": true, "tty": args.tty,
        }),
        false => json!({
            "kind": "Service", "name": name, "namespace": namespace, "image": image, "replicas": args.replicas,
        }),
    };
    if let Some(object) = flat.as_object_mut() {
        if !env.is_empty() {
            object.insert("env".to_owned(), Value::Object(env));
        }
        if !args.args.is_empty() {
            object.insert("args".to_owned(), json!(args.args));
        }
        if !route.is_empty() {
            object.insert("http".to_owned(), json!({ "routes": [route] }));
        }
    }
    Ok(flat)
}

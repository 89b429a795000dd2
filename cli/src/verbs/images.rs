//! `skiff images`: what is in the cluster's registry.

use std::process::ExitCode;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;
use serde_json::{Value, json};
use skiff_api::Digest;
use skiff_registry::Client;
use skiff_registry::client::{Error, Summary};

use crate::Outcome;
use crate::args::{ImageFormat, ImagesArgs};
use crate::context::Context;
use crate::exit::Failure;
use crate::output::{docker, format, table};

/// Images that are asked about at once: each takes a manifest and a config.
const ASKED_AT_ONCE: usize = 8;

struct Row {
    name: String,
    tag: String,
    digest: Digest,
    summary: Summary,
}

pub(super) async fn run(context: &Context, args: ImagesArgs) -> Outcome {
    let registry = context.registry()?;
    let mut repositories = registry.repositories().await?;
    let below = format!("{}/", args.namespace.namespace);
    match &args.name {
        Some(name) => {
            let wanted = name.without_registry().repository_in(args.namespace.namespace.as_str());
            repositories.retain(|repository| *repository == wanted);
        }
        None if args.all_namespaces => {}
        None => repositories.retain(|repository| repository.starts_with(&below)),
    }
    let tag = args.name.as_ref().and_then(|name| name.tag());
    let mut names = Vec::new();
    for repository in repositories {
        let tags = registry.tags(&repository).await?.unwrap_or_default();
        let tags = tags.into_iter().filter(|of| tag.is_none_or(|tag| tag == of));
        names.extend(tags.map(|tag| (repository.clone(), tag)));
    }
    let rows = stream::iter(names).map(|(name, tag)| row(&registry, name, tag)).buffered(ASKED_AT_ONCE);
    let rows: Vec<Row> = rows.try_filter_map(async |row| Ok(row)).try_collect().await?;
    print(&args, &rows)?;
    Ok(ExitCode::SUCCESS)
}

/// Nothing, where the tag was taken away meanwhile.
async fn row(registry: &Client, name: String, tag: String) -> Result<Option<Row>, Error> {
    let digest = match registry.resolve(&name, &tag).await {
        Err(error) if error.is_not_found() => return Ok(None),
        digest => digest?,
    };
    let summary = match registry.summary(&name, &digest).await {
        Err(error) if error.is_not_found() => return Ok(None),
        summary => summary?,
    };
    Ok(Some(Row { name, tag, digest, summary }))
}

fn print(args: &ImagesArgs, rows: &[Row]) -> Result<(), Failure> {
    let values = || Value::Array(rows.iter().map(value).collect());
    match args.output {
        ImageFormat::Json => print!("{}", format::json(&values())?),
        ImageFormat::Yaml => print!("{}", format::yaml(&values())?),
        ImageFormat::Name => rows.iter().for_each(|row| println!("{}:{}", row.name, row.tag)),
        ImageFormat::Table if rows.is_empty() && !args.all_namespaces => {
            eprintln!("there are no images in namespace {} (hint: -A looks in all)", args.namespace.namespace);
        }
        ImageFormat::Table => {
            let now = Timestamp::now();
            let rows = rows.iter().map(|row| cells(row, args.no_trunc, now)).collect();
            print!("{}", table::render(&["NAME", "TAG", "DIGEST", "KIND", "SIZE", "CREATED"], rows));
        }
    }
    Ok(())
}

fn cells(row: &Row, no_trunc: bool, now: Timestamp) -> Vec<String> {
    let Row { name, tag, digest, summary } = row;
    let digest = if no_trunc { digest.to_string() } else { digest.short().to_owned() };
    let created = summary.created.map_or_else(|| "-".to_owned(), |created| docker::ago(created, now));
    vec![name.clone(), tag.clone(), digest, summary.kind.to_string(), docker::size(summary.bytes), created]
}

fn value(row: &Row) -> Value {
    let Row { name, tag, digest, summary } = row;
    json!({
        "name": name,
        "tag": tag,
        "digest": digest,
        "kind": summary.kind.to_string(),
        "bytes": summary.bytes,
        "created": summary.created,
    })
}

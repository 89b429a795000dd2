//! `skiff get`

use std::collections::BTreeMap;
use std::process::ExitCode;

use futures_util::StreamExt;
use jiff::Timestamp;
use serde_json::Value;
use skiff_api::client::{Change, Client, ListQuery, Scope};
use skiff_api::resource::Selector;

use crate::Outcome;
use crate::args::{Format, GetArgs};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::output::row::{self, Namespaces, Width};
use crate::output::{format, table};

pub(super) async fn run(context: &Context, args: GetArgs) -> Outcome {
    let client = context.client()?;
    if let Err(error) = args.labels.parse::<Selector>() {
        return Err(Failure::new(Exit::Invalid, error).during("failed to read --selector"));
    }
    if args.watch {
        return watch(&client, &args).await;
    }
    match &args.name {
        Some(name) => {
            let object = client.get_value(args.kind, &args.namespace.namespace, name).await?;
            match args.output {
                Format::Json => print!("{}", format::json(&object)?),
                Format::Yaml => print!("{}", format::yaml(&object)?),
                _ => print_rows(&args, vec![object]),
            }
        }
        None => {
            let list = client.list_values(args.kind, &scope(&args), &query(&args)).await?;
            match args.output {
                Format::Json => print!("{}", format::json(&format::list(args.kind, list.items))?),
                Format::Yaml => print!("{}", format::yaml(&format::list(args.kind, list.items))?),
                Format::Table | Format::Wide if list.items.is_empty() => eprintln!("{}", nothing(&args)),
                _ => print_rows(&args, list.items),
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn nothing(args: &GetArgs) -> String {
    match args.all_namespaces || !args.kind.is_namespaced() {
        true => format!("there are no {}", args.kind.plural()),
        false => format!(
            "there are no {} in namespace {} (hint: -A looks in all)",
            args.kind.plural(),
            args.namespace.namespace
        ),
    }
}

fn scope(args: &GetArgs) -> Scope {
    match args.all_namespaces {
        true => Scope::All,
        false => Scope::Namespace(args.namespace.namespace.clone()),
    }
}

fn query(args: &GetArgs) -> ListQuery {
    ListQuery { labels: args.labels.clone(), regarding: None }
}

fn layout(args: &GetArgs) -> (Namespaces, Width) {
    let namespaces = if args.all_namespaces { Namespaces::Shown } else { Namespaces::Hidden };
    let width = if args.output == Format::Wide { Width::Wide } else { Width::Narrow };
    (namespaces, width)
}

fn print_rows(args: &GetArgs, objects: Vec<Value>) {
    if args.output == Format::Name {
        objects.iter().for_each(|object| println!("{}", format::name(args.kind, object)));
        return;
    }
    let (namespaces, width) = layout(args);
    let now = Timestamp::now();
    let rows = objects.iter().map(|object| row::cells(args.kind, object, namespaces, width, now)).collect();
    print!("{}", table::render(&row::header(args.kind, namespaces, width), rows));
}

/// Prints every object, then each again as it changes. A deleted one is printed a last time, as kubectl does.
async fn watch(client: &Client, args: &GetArgs) -> Outcome {
    let mut changes = Box::pin(client.watch(args.kind, scope(args), query(args)));
    let mut printed: BTreeMap<String, Value> = BTreeMap::new();
    let mut header_printed = false;
    while let Some(change) = changes.next().await {
        let changed = match change? {
            // After a gap the list repeats what was printed: print only what differs.
            Change::Restarted(all) => all,
            Change::Added(one) | Change::Modified(one) | Change::Deleted(one) => vec![one],
        };
        for object in changed {
            let key = format!(
                "{}/{}",
                row::text(object.pointer("/metadata/namespace")),
                row::text(object.pointer("/metadata/name"))
            );
            let is_wanted = args.name.as_ref().is_none_or(|name| row::text(object.pointer("/metadata/name")) == *name);
            if !is_wanted || printed.get(&key) == Some(&object) {
                continue;
            }
            print_changed(args, &object, &mut header_printed)?;
            printed.insert(key, object);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print_changed(args: &GetArgs, object: &Value, header_printed: &mut bool) -> Result<(), Failure> {
    match args.output {
        Format::Json => print!("{}", format::json(object)?),
        Format::Yaml => print!("---\n{}", format::yaml(object)?),
        Format::Name => println!("{}", format::name(args.kind, object)),
        Format::Table | Format::Wide => {
            let (namespaces, width) = layout(args);
            let header = row::header(args.kind, namespaces, width);
            let cells = row::cells(args.kind, object, namespaces, width, Timestamp::now());
            let text = table::render(&header, vec![cells]);
            match *header_printed {
                false => print!("{text}"),
                true => text.lines().skip(1).for_each(|line| println!("{line}")),
            }
            *header_printed = true;
        }
    }
    Ok(())
}

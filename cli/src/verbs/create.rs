//! `skiff create`: Secrets and Configs from what is at hand, without a manifest.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use serde_json::json;
use skiff_api::client::{ApplyAction, Run};
use skiff_api::resource::API_VERSION;
use skiff_api::{Kind, Name};

use crate::Outcome;
use crate::args::{CreateArgs, CreateVerb};
use crate::context::Context;
use crate::exit::{Exit, Failure};

/// More than the API takes.
const VALUE_BYTES_MAX: u64 = 1 << 20;
const STDIN: &str = "-";

pub(super) async fn run(context: &Context, verb: CreateVerb) -> Outcome {
    let (kind, name, namespace, data, replace) = match verb {
        CreateVerb::Namespace { name } => (Kind::Namespace, name, None, BTreeMap::new(), false),
        CreateVerb::Secret(args) => parts(Kind::Secret, args)?,
        CreateVerb::Config(args) => parts(Kind::Config, args)?,
    };
    let client = context.client()?;
    let place = namespace.clone().unwrap_or_else(|| name.clone());
    let exists = match client.get_value(kind, &place, name.as_str()).await {
        Ok(_) => true,
        Err(error) if error.is_not_found() => false,
        Err(error) => return Err(error.into()),
    };
    let object = format!("{}/{name}", kind.singular());
    if exists && !replace {
        let hint = match kind {
            Kind::Namespace => "change it with `skiff apply`".to_owned(),
            kind => format!("change it with --replace, or delete it with `skiff delete {} {name}`", kind.singular()),
        };
        let text = format!("failed to create {object}: it is there already (hint: {hint})");
        return Err(Failure::message(Exit::Conflict, text));
    }
    let mut document = json!({"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": {}});
    if let Some(namespace) = &namespace {
        document["metadata"]["namespace"] = json!(namespace);
        document["spec"]["data"] = json!(data);
    }
    let applied = client.apply(&document, Run::Real).await?;
    let did = match applied.action {
        ApplyAction::Created => "created",
        ApplyAction::Configured => "configured",
        ApplyAction::Unchanged => "unchanged",
    };
    println!("{object} {did}");
    Ok(ExitCode::SUCCESS)
}

type Parts = (Kind, Name, Option<Name>, BTreeMap<String, String>, bool);

fn parts(kind: Kind, args: CreateArgs) -> Result<Parts, Failure> {
    let data = data(&args)?;
    if data.is_empty() {
        let (kind, name) = (kind.singular(), &args.name);
        let text = format!(
            "failed to create {kind}/{name}: it would be empty (hint: --from-literal KEY=VALUE, --from-file [KEY=]FILE or --from-env-file FILE)"
        );
        return Err(Failure::message(Exit::Invalid, text));
    }
    Ok((kind, args.name, Some(args.namespace.namespace), data, args.replace))
}

/// The values that were named, each key once.
fn data(args: &CreateArgs) -> Result<BTreeMap<String, String>, Failure> {
    let mut data = BTreeMap::new();
    let mut add = |key: &str, value: String| match data.insert(key.to_owned(), value) {
        None => Ok(()),
        Some(_) => Err(invalid(format!("the key {key} is there twice"))),
    };
    for literal in &args.literals {
        // What is behind the key may be a secret: it is not in the message.
        let Some((key, value)) = literal.split_once('=') else {
            return Err(invalid("--from-literal takes KEY=VALUE, and there is no `=`".to_owned()));
        };
        let value = if value == STDIN { line(read_stdin()?) } else { value.to_owned() };
        add(key, value)?;
    }
    for file in &args.files {
        let (key, path) = match file.split_once('=') {
            Some((key, path)) => (key, path),
            None => (Path::new(file).file_name().and_then(|name| name.to_str()).unwrap_or_default(), file.as_str()),
        };
        if key == STDIN {
            return Err(invalid("what comes from standard input needs a key: write KEY=-".to_owned()));
        }
        add(key, read(path)?)?;
    }
    for path in &args.env_files {
        let text = read(&path.to_string_lossy())?;
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some((key, value)) = line.split_once('=') else {
                return Err(invalid(format!("{}:{}: the line is not KEY=VALUE", path.display(), number + 1)));
            };
            add(key.trim(), value.to_owned())?;
        }
    }
    Ok(data)
}

fn invalid(why: String) -> Failure {
    Failure::message(Exit::Invalid, format!("failed to read the values: {why}"))
}

fn read(path: &str) -> Result<String, Failure> {
    if path == STDIN {
        return read_stdin();
    }
    let file = std::fs::File::open(path).map_err(|error| Failure::io("read", path.as_ref(), error))?;
    text(path, file)
}

fn read_stdin() -> Result<String, Failure> {
    text("standard input", std::io::stdin().lock())
}

fn text(what: &str, from: impl Read) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    from.take(VALUE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::io("read", what.as_ref(), error))?;
    if bytes.len() as u64 > VALUE_BYTES_MAX {
        return Err(invalid(format!("{what} has more than {VALUE_BYTES_MAX} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| invalid(format!("{what} is not UTF-8 text (hint: encode it, as base64 does)")))
}

/// What a person typed, without the end of the line.
fn line(text: String) -> String {
    text.strip_suffix('\n').map(|text| text.strip_suffix('\r').unwrap_or(text).to_owned()).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn read_args(args: &[&str]) -> Result<BTreeMap<String, String>, String> {
        let args = CreateArgs::try_parse_from([&["create", "stripe"], args].concat()).map_err(|e| e.to_string())?;
        data(&args).map_err(|failure| failure.to_string())
    }

    #[test]
    fn values_come_from_words_and_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tls.crt");
        std::fs::write(&path, "PEM\n").unwrap();
        let env = dir.path().join("env");
        std::fs::write(&env, "# comment\n\nA=1=2\n").unwrap();
        let (path, env) = (path.to_str().unwrap(), env.to_str().unwrap());
        let named = format!("cert={path}");
        let read =
            read_args(&["--from-literal", "K=v", "--from-file", path, "--from-file", &named, "--from-env-file", env]);
        let expected = [("A", "1=2"), ("K", "v"), ("cert", "PEM\n"), ("tls.crt", "PEM\n")];
        assert_eq!(read.unwrap(), expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    }

    #[test]
    fn mistakes_are_told_without_the_value() {
        let said = read_args(&["--from-literal", "hunter2"]).unwrap_err();
        assert!(said.contains("KEY=VALUE") && !said.contains("hunter2"), "{said}");
        assert!(read_args(&["--from-literal", "a=1", "--from-literal", "a=2"]).unwrap_err().contains("twice"));
        assert!(read_args(&["--from-file", "-"]).unwrap_err().contains("KEY=-"));
    }

    #[test]
    fn the_end_of_a_typed_line_is_not_part_of_it() {
        assert_eq!(line("a\r\n".to_owned()), "a");
        assert_eq!(line("a\nb".to_owned()), "a\nb");
    }
}

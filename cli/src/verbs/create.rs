//! `skiff create`: Secrets and Configs from what is at hand, without a manifest.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use skiff_api::client::Client;
use skiff_api::resource::{ConfigSpec, Metadata, NamespaceSpec, Object, SecretSpec, SecretText, Spec};
use skiff_api::{Code, Kind};

use crate::Outcome;
use crate::args::{CreateArgs, CreateVerb};
use crate::context::Context;
use crate::exit::{Exit, Failure};

/// More than the API takes.
const VALUE_BYTES_MAX: u64 = 1 << 20;
const STDIN: &str = "-";

pub(super) async fn run(context: &Context, verb: CreateVerb) -> Outcome {
    let client = context.client()?;
    match verb {
        CreateVerb::Namespace { name } => {
            let object = Object::<NamespaceSpec>::new(Metadata::new(None, name.as_str()), NamespaceSpec::default());
            create(&client, &object, "change it with `skiff apply`".to_owned()).await
        }
        CreateVerb::Config(args) => {
            let data = data(Kind::Config, &args)?;
            keep(&client, args, |spec: &mut ConfigSpec| spec.data = data).await
        }
        CreateVerb::Secret(args) => {
            let data = data(Kind::Secret, &args)?;
            let data = data.into_iter().map(|(key, value)| (key, SecretText::new(value))).collect();
            keep(&client, args, |spec: &mut SecretSpec| spec.data = data).await
        }
    }
}

/// Makes an object that must not be there yet.
async fn create<S: Spec>(client: &Client, object: &Object<S>, otherwise: String) -> Outcome {
    let name = format!("{}/{}", S::KIND.singular(), object.metadata.name);
    match client.create(object).await {
        Ok(_) => {
            println!("{name} created");
            Ok(ExitCode::SUCCESS)
        }
        Err(error) if error.code() == Some(Code::AlreadyExists) => {
            let text = format!("failed to create {name}: it is there already (hint: {otherwise})");
            Err(Failure::message(Exit::Conflict, text))
        }
        Err(error) => Err(error.into()),
    }
}

/// The same of one that has data; with `--replace`, what one that is there has becomes this.
async fn keep<S: Spec + Default>(client: &Client, args: CreateArgs, set: impl FnOnce(&mut S)) -> Outcome {
    let CreateArgs { name, replace, namespace, .. } = args;
    let namespace = namespace.namespace;
    let live = match replace {
        true => client.get::<S>(&namespace, name.as_str()).await.map(Some),
        false => Ok(None),
    };
    let live = match live {
        Err(error) if error.is_not_found() => None,
        live => live?,
    };
    let kind = S::KIND.singular();
    let Some(mut live) = live else {
        let mut object = Object::<S>::new(Metadata::new(Some(namespace), name.as_str()), S::default());
        set(&mut object.spec);
        let otherwise = format!("change it with --replace, or delete it with `skiff delete {kind} {name}`");
        return create(client, &object, otherwise).await;
    };
    let generation = live.metadata.generation;
    set(&mut live.spec);
    let did = match client.replace(&live).await?.metadata.generation == generation {
        true => "unchanged",
        false => "configured",
    };
    println!("{kind}/{name} {did}");
    Ok(ExitCode::SUCCESS)
}

/// The values that were named, each key once; at least one.
fn data(kind: Kind, args: &CreateArgs) -> Result<BTreeMap<String, String>, Failure> {
    let is_stdin = |text: &&String| text.rsplit('=').next() == Some(STDIN);
    let literals = args.literals.iter().filter(|text| text.split_once('=').is_some_and(|(_, value)| value == STDIN));
    let env_files = args.env_files.iter().filter(|path| path.as_os_str() == STDIN);
    if literals.count() + args.files.iter().filter(is_stdin).count() + env_files.count() > 1 {
        return Err(invalid("only one of them can come from standard input".to_owned()));
    }
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
    if data.is_empty() {
        let (kind, name) = (kind.singular(), &args.name);
        let text = format!(
            "failed to create {kind}/{name}: it would be empty (hint: --from-literal KEY=VALUE, --from-file [KEY=]FILE or --from-env-file FILE)"
        );
        return Err(Failure::message(Exit::Invalid, text));
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
        data(Kind::Secret, &args).map_err(|failure| failure.to_string())
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
        let twice = ["--from-literal", "a=-", "--from-file", "b=-"];
        assert!(read_args(&twice).unwrap_err().contains("only one of them"));
        assert!(read_args(&[]).unwrap_err().contains("secret/stripe: it would be empty"));
        assert!(read_args(&["--from-file", "/nowhere/key"]).unwrap_err().contains("/nowhere/key"));
    }

    #[test]
    fn the_end_of_a_typed_line_is_not_part_of_it() {
        assert_eq!(line("a\r\n".to_owned()), "a");
        assert_eq!(line("a\nb".to_owned()), "a\nb");
    }
}

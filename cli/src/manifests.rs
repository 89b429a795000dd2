//! Manifests from files, folders and standard input.

use std::io::Read;
use std::path::Path;
use std::{fs, io};

use skiff_api::Name;
use skiff_api::manifest::{self, Document, MANIFEST_BYTES_MAX, Source, Typed};

use crate::args::{FileArgs, SetImage};
use crate::exit::{Exit, Failure};

/// Every object that the files name, in the order in which to apply them. An object that is there twice is an error.
pub(crate) fn load(args: &FileArgs) -> Result<Vec<Document>, Failure> {
    let (mut sources, mut overlays) = (Vec::new(), Vec::new());
    args.files.iter().try_for_each(|path| load_path(path, &mut sources))?;
    args.changes.overlay.iter().try_for_each(|path| load_path(path, &mut overlays))?;
    let mut documents = manifest::read_overlaid(&sources, &overlays)?;
    if documents.is_empty() {
        let files: Vec<_> = args.files.iter().map(|file| file.display().to_string()).collect();
        let text =
            format!("failed to find an object in {} (hint: a manifest starts with `kind: Service`)", files.join(", "));
        return Err(Failure::message(Exit::NotFound, text));
    }
    for document in &mut documents {
        set_namespace(document, &args.namespace.namespace);
    }
    refuse_doubles(&documents)?;
    args.changes.set_image.iter().try_for_each(|wanted| set_image(&mut documents, wanted))?;
    documents.sort_by_key(|document| document.kind);
    Ok(documents)
}

/// A document that names no namespace is of the one on the command line.
fn set_namespace(document: &mut Document, namespace: &Name) {
    if document.kind.is_namespaced() && document.namespace.is_none() {
        document.namespace = Some(namespace.clone());
        if let Some(metadata) = document.sparse.get_mut("metadata").and_then(|metadata| metadata.as_object_mut()) {
            metadata.insert("namespace".to_owned(), serde_json::json!(namespace));
        }
    }
}

/// Another image than the manifest names, for a service that it does name.
fn set_image(documents: &mut [Document], wanted: &SetImage) -> Result<(), Failure> {
    let mut is_there = false;
    for document in documents.iter_mut().filter(|document| document.name.as_str() == wanted.service.as_str()) {
        match &mut document.typed {
            Typed::Service(service) => service.spec.image.clone_from(&wanted.image),
            Typed::Job(job) => job.spec.image.clone_from(&wanted.image),
            _ => continue,
        }
        if let Some(spec) = document.sparse.get_mut("spec").and_then(|spec| spec.as_object_mut()) {
            spec.insert("image".to_owned(), serde_json::json!(wanted.image));
        }
        is_there = true;
    }
    match is_there {
        true => Ok(()),
        false => {
            let SetImage { service, image } = wanted;
            let text = format!(
                "failed to set the image of service {service} to {image}: no manifest has that service (hint: write its name as the manifest does)"
            );
            Err(Failure::message(Exit::NotFound, text))
        }
    }
}

fn refuse_doubles(documents: &[Document]) -> Result<(), Failure> {
    for (i, document) in documents.iter().enumerate() {
        let same = |other: &&Document| {
            (other.kind, &other.namespace, &other.name) == (document.kind, &document.namespace, &document.name)
        };
        if let Some(first) = documents[..i].iter().find(same) {
            let text = format!(
                "{}:{}: {}/{} is there twice; the first is at {}:{} (hint: remove one of the two)",
                document.file,
                document.line,
                document.kind.singular(),
                document.name,
                first.file,
                first.line
            );
            return Err(Failure::message(Exit::Invalid, text));
        }
    }
    Ok(())
}

fn load_path(path: &Path, sources: &mut Vec<Source>) -> Result<(), Failure> {
    if path == Path::new("-") {
        let text = read_text(&mut io::stdin().lock(), "standard input", Path::new("standard input"))?;
        sources.push(Source { file: "standard input".to_owned(), text });
        return Ok(());
    }
    let meta = fs::metadata(path).map_err(|error| Failure::io("read", path, error))?;
    if !meta.is_dir() {
        return load_file(path, sources);
    }
    let entries = fs::read_dir(path).map_err(|error| Failure::io("read", path, error))?;
    let mut files = Vec::new();
    for entry in entries {
        files.push(entry.map_err(|error| Failure::io("read", path, error))?.path());
    }
    files.sort();
    let is_manifest = |file: &&std::path::PathBuf| {
        file.extension().is_some_and(|ending| ["yaml", "yml", "json"].iter().any(|known| ending == *known))
    };
    files.iter().filter(is_manifest).try_for_each(|file| load_file(file, sources))
}

fn load_file(path: &Path, sources: &mut Vec<Source>) -> Result<(), Failure> {
    let mut file = fs::File::open(path).map_err(|error| Failure::io("read", path, error))?;
    let name = path.display().to_string();
    let text = read_text(&mut file, &name, path)?;
    sources.push(Source { file: name, text });
    Ok(())
}

fn read_text(source: &mut dyn Read, name: &str, path: &Path) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    // One byte more than is allowed shows that there is more, without reading all of an endless file.
    let limit = MANIFEST_BYTES_MAX as u64 + 1;
    source.take(limit).read_to_end(&mut bytes).map_err(|error| Failure::io("read", path, error))?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let text = format!("{name}: not text: byte {at} is not UTF-8 (hint: a manifest is YAML or JSON)");
        Failure::message(Exit::Invalid, text)
    })
}

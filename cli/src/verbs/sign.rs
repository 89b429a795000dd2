//! `skiff sign`: who holds a key says that an image may run.
//!
//! Both of cosign's forms are attached: the simple one is what podman, skopeo and cosign up to 2 read, and every registry can
//! hold it; the bundle is what cosign 3 reads.

use std::io::{IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{fs, io};

use skiff_api::Digest;
use skiff_registry::client::{INDEX_DEPTH_MAX, Selection, select};
use skiff_registry::manifest::Manifest;
use skiff_registry::sign::judge::What;
use skiff_registry::sign::private::KEY_BYTES_MAX;
use skiff_registry::sign::{Form, GeneratedKey, SigningKey, bundle, fingerprint, look, simple};

use crate::Outcome;
use crate::args::{ServerArgs, SignArgs};
use crate::exit::{Exit, Failure};
use crate::place::Place;

/// Where the passphrase of a key may stand; the second is cosign's.
const PASSPHRASES: [&str; 2] = ["SKIFF_KEY_PASSPHRASE", "COSIGN_PASSWORD"];

pub(super) async fn run(server: &ServerArgs, args: SignArgs) -> Outcome {
    if let Some(path) = &args.generate_key {
        generate(path)?;
    }
    let (Some(image), Some(path)) = (&args.image, args.key.as_ref().or(args.generate_key.as_ref())) else {
        return Ok(ExitCode::SUCCESS);
    };
    let key = read(path)?;
    let place = Place::find(server, image, &args.namespace.namespace, args.plain.plain_http).await?;
    // The address is for tools that compare it with the one that they were given; nothing here believes it.
    let address = place.registry.as_deref().unwrap_or_else(|| place.client.endpoint());
    let name = format!("{}/{}", address.rsplit("://").next().unwrap_or_default(), place.repository);
    for digest in digests(&place).await? {
        let done = sign(&place, &key, &name, &digest).await?;
        let how = if done { "signed" } else { "is signed by" };
        println!("{name}@{digest} {how} {} {}", key.public().algorithm().name(), fingerprint(key.public()));
    }
    Ok(ExitCode::SUCCESS)
}

/// What to sign: the manifest that the image stands for, and of an index also the one that is run here, since that is
/// what is copied from another registry.
async fn digests(place: &Place) -> Result<Vec<Digest>, Failure> {
    let mut digests = vec![place.digest().await?];
    while let Some(last) = digests.last()
        && digests.len() <= INDEX_DEPTH_MAX
    {
        let pulled = place.client.pull_manifest(&place.repository, &last.to_string()).await?;
        let manifest = Manifest::parse(&pulled.bytes);
        match manifest.map(|manifest| select(&manifest, &pulled.media_type)) {
            Ok(Ok(Selection::Child(child))) => digests.push(child.digest),
            // Whatever else it is can be signed as well.
            _ => break,
        }
    }
    Ok(digests)
}

/// Attaches what is not there yet. `false`: both were.
async fn sign(place: &Place, key: &SigningKey, name: &str, digest: &Digest) -> Result<bool, Failure> {
    let attached = place.client.signatures(&place.repository, digest).await?;
    let seen = look(&attached, digest, std::slice::from_ref(key.public()));
    let has = |form| seen.iter().any(|seen| seen.form == form && matches!(seen.what, What::Signed { .. }));
    let mut signatures = Vec::new();
    let failed = |error| Failure::new(Exit::Internal, error);
    if !has(Form::Simple) {
        signatures.push(simple::sign(key, name, digest).map_err(failed)?);
    }
    if !has(Form::Bundle) {
        signatures.push(bundle::sign(key, digest).map_err(failed)?);
    }
    for signature in &signatures {
        place.client.attach(&place.repository, digest, signature).await?;
    }
    Ok(!signatures.is_empty())
}

/// Reads a key, and asks for its passphrase if it has one.
fn read(path: &Path) -> Result<SigningKey, Failure> {
    let text = read_small(path)?;
    let text = String::from_utf8_lossy(&text);
    let passphrase = match SigningKey::is_sealed(&text) {
        true => Some(match from_environment() {
            Some(passphrase) => passphrase,
            None if io::stdin().is_terminal() => {
                let prompt = format!("Passphrase of {}: ", path.display());
                rpassword::prompt_password(prompt)
                    .map_err(|error| Failure::io("read the passphrase of", path, error))?
            }
            None => {
                let text = format!(
                    "failed to read {}: its passphrase is needed (hint: set {})",
                    path.display(),
                    PASSPHRASES[0]
                );
                return Err(Failure::message(Exit::Invalid, text));
            }
        }),
        false => None,
    };
    SigningKey::read(&text, passphrase.as_deref())
        .map_err(|error| Failure::message(Exit::Invalid, format!("failed to read the key {}: {error}", path.display())))
}

fn read_small(path: &Path) -> Result<Vec<u8>, Failure> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(|error| Failure::io("read", path, error))?;
    file.take(KEY_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(|error| Failure::io("read", path, error))?;
    Ok(bytes)
}

fn from_environment() -> Option<String> {
    PASSPHRASES.iter().find_map(|name| std::env::var(name).ok()).filter(|text| !text.is_empty())
}

/// Writes a new pair: FILE, which nobody else may read, and FILE.pub. What is there already is never replaced.
fn generate(path: &Path) -> Result<(), Failure> {
    let failed = |error| Failure::message(Exit::Internal, format!("failed to make a key: {error}"));
    let pair = GeneratedKey::new(from_environment().as_deref()).map_err(failed)?;
    let mut public: PathBuf = path.to_owned();
    public.as_mut_os_string().push(".pub");
    write_new(path, pair.private.as_bytes(), 0o600)?;
    write_new(&public, pair.public.to_string().as_bytes(), 0o644)?;
    println!("{} {}", public.display(), fingerprint(&pair.public));
    Ok(())
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written = file.and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(|error| Failure::io("write", path, error))
}

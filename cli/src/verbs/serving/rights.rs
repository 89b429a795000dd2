//! Who may use the registry: whoever has the cluster's token, the tokens of a file, nodes that pull, and, if the operator
//! says so, anybody who pulls.
//!
//! The file has the hash of each token, so that whoever reads it learns none. It is looked at when a request comes, at most
//! every two seconds, and read again when it changed; a change that cannot be read is logged, and the tokens stay as they
//! were. The version check is refused to whoever shows no token, also where anybody may pull: it is where docker, podman and
//! oras learn how to get one, and whoever has no login gets that of nobody.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde::Deserialize;
use skiff_registry::hash::sha256;
use skiff_registry::server::{ANONYMOUS, Pattern, Rights, token_of};
use skiff_registry::{Action, Authorizer, Decision};
use skiff_scheduler::api::Token;

use crate::exit::{Exit, Failure};

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Thousands of tokens.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The rights of a running registry.
pub(super) struct RegistryRights {
    cluster: Token,
    /// What a connection with a node's certificate shows.
    nodes: Token,
    /// What whoever shows no token may do.
    anonymous: Rights,
    file: Option<TokenFile>,
    /// `http` or `https`.
    scheme: &'static str,
}

impl RegistryRights {
    pub(super) fn new(
        cluster: Token,
        nodes: Token,
        anonymous_pull: Vec<Pattern>,
        file: Option<PathBuf>,
        scheme: &'static str,
    ) -> Result<Self, Failure> {
        let anonymous = Rights { pull: anonymous_pull, ..Rights::default() };
        let file = file.map(TokenFile::open).transpose()?;
        Ok(Self { cluster, nodes, anonymous, file, scheme })
    }

    fn decide(&self, header: Option<&str>, action: Action, repository: Option<&str>) -> Decision {
        if self.cluster.admits(header) {
            return Decision::Allowed;
        }
        if self.nodes.admits(header) {
            return if action == Action::Pull { Decision::Allowed } else { Decision::Denied };
        }
        // podman without a login sends an empty user and password.
        let token = header.map(|header| token_of(header).unwrap_or_default());
        let is_nobody = header.is_none_or(|header| match token.as_deref() {
            Some("") => is_basic(header),
            token => token == Some(ANONYMOUS),
        });
        let is_open = repository.is_some_and(|name| self.anonymous.allow(action, name));
        if is_nobody {
            return if is_open { Decision::Allowed } else { Decision::Unauthenticated };
        }
        let known = self.file.as_ref().and_then(|file| file.rights_of(&token.unwrap_or_default()));
        match (known, repository) {
            (None, _) => Decision::Unauthenticated,
            (Some(_), None) => Decision::Allowed,
            // What anybody may, who is known may too.
            (Some(_), Some(_)) if is_open => Decision::Allowed,
            (Some(rights), Some(name)) if rights.allow(action, name) => Decision::Allowed,
            (Some(_), Some(_)) => Decision::Denied,
        }
    }
}

impl Authorizer for RegistryRights {
    fn authorize(&self, authorization_header: Option<&str>, action: Action, repository: Option<&str>) -> Decision {
        self.decide(authorization_header, action, repository)
    }

    fn open_by(&self) -> Option<&'static str> {
        (!self.anonymous.pull.is_empty()).then_some(self.scheme)
    }
}

fn is_basic(header: &str) -> bool {
    header.split_once(' ').is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"))
}

/// One token of the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// Who has it, for people.
    name: String,
    /// The token's hash, in hexadecimal.
    sha256: String,
    #[serde(default)]
    pull: Vec<Pattern>,
    #[serde(default)]
    push: Vec<Pattern>,
    #[serde(default)]
    delete: Vec<Pattern>,
}

type Tokens = HashMap<String, Rights>;

struct TokenFile {
    path: PathBuf,
    seen: Mutex<Seen>,
}

struct Seen {
    looked: Instant,
    stamp: Stamp,
    tokens: Arc<Tokens>,
}

/// Changes when the file does.
type Stamp = Option<(SystemTime, u64)>;

impl TokenFile {
    fn open(path: PathBuf) -> Result<Self, Failure> {
        let stamp = stamp(&path);
        let tokens = read(&path).map_err(|why| {
            let text = format!("failed to read the registry's tokens in {}: {why}", path.display());
            Failure::message(Exit::Invalid, text)
        })?;
        Ok(Self { path, seen: Mutex::new(Seen { looked: Instant::now(), stamp, tokens: Arc::new(tokens) }) })
    }

    fn rights_of(&self, token: &str) -> Option<Rights> {
        let tokens = self.tokens();
        // A hash is compared, which tells nothing about a token that is nearly right.
        tokens.get(sha256(token.as_bytes()).hex()).cloned()
    }

    fn tokens(&self) -> Arc<Tokens> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.looked.elapsed() >= LOOK_EVERY {
            seen.looked = Instant::now();
            let now = stamp(&self.path);
            if now != seen.stamp {
                seen.stamp = now;
                match read(&self.path) {
                    Ok(tokens) => {
                        tracing::info!(file = %self.path.display(), tokens = tokens.len(), "read the registry's tokens again");
                        seen.tokens = Arc::new(tokens);
                    }
                    Err(why) => {
                        tracing::error!(file = %self.path.display(), why, "the registry's tokens stay as they were");
                    }
                }
            }
        }
        Arc::clone(&seen.tokens)
    }
}

fn stamp(path: &Path) -> Stamp {
    let meta = fs::metadata(path).ok()?;
    Some((meta.modified().ok()?, meta.len()))
}

fn read(path: &Path) -> Result<Tokens, String> {
    let bytes = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(format!("it has {bytes} bytes, more than {FILE_BYTES_MAX}"));
    }
    parse(&fs::read_to_string(path).map_err(|error| error.to_string())?)
}

fn parse(text: &str) -> Result<Tokens, String> {
    let entries: Vec<Entry> = match text.trim() {
        "" => Vec::new(),
        _ => serde_saphyr::from_str(text).map_err(|error| error.to_string())?,
    };
    let mut tokens = Tokens::new();
    for Entry { name, sha256, pull, push, delete } in entries {
        let is_hash = sha256.len() == 64 && sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_hash {
            return Err(format!(
                "token {name:?}: sha256 is not 64 hexadecimal digits (hint: printf %s \"$TOKEN\" | sha256sum)"
            ));
        }
        if tokens.insert(sha256.to_ascii_lowercase(), Rights { pull, push, delete }).is_some() {
            return Err(format!("token {name:?}: an earlier one has the same sha256"));
        }
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn entry(name: &str, token: &str, rights: &str) -> String {
        format!("- {{name: {name}, sha256: {}, {rights}}}\n", sha256(token.as_bytes()).hex())
    }

    /// `Basic USER:PASSWORD` of nobody, written out: there is nothing here that encodes it.
    const NOBODY: &str = "Basic Og==";

    fn rights(text: &str, anonymous: &[&str]) -> (RegistryRights, tempfile::NamedTempFile) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let anonymous = anonymous.iter().map(|pattern| pattern.parse().unwrap()).collect();
        let rights = RegistryRights::new(
            Token::new("cluster"),
            Token::new("a node"),
            anonymous,
            Some(file.path().to_path_buf()),
            "http",
        );
        (rights.map_err(|_| "refused").unwrap(), file)
    }

    #[test]
    fn each_token_has_its_rights() {
        let text =
            entry("ci", "one", "push: [\"shop/*\"], delete: [shop/tmp]") + &entry("node", "two", "pull: [\"*\"]");
        let (rights, _file) = rights(&text, &["pub/*"]);
        let decide =
            |header: &str, action, name| rights.decide(Some(header).filter(|header| !header.is_empty()), action, name);
        use Action::{Delete, Pull, Push};
        use Decision::{Allowed, Denied, Unauthenticated};
        for (header, action, name, decision) in [
            ("Bearer cluster", Delete, Some("any"), Allowed),
            ("Bearer a node", Pull, Some("any"), Allowed),
            ("Bearer a node", Pull, None, Allowed),
            ("Bearer a node", Push, Some("any"), Denied),
            ("Bearer a node", Delete, Some("any"), Denied),
            ("Bearer one", Push, Some("shop/cart"), Allowed),
            ("Bearer one", Pull, Some("shop/cart"), Allowed),
            ("Bearer one", Delete, Some("shop/cart"), Denied),
            ("Bearer one", Delete, Some("shop/tmp"), Allowed),
            ("Bearer one", Pull, Some("pub/a"), Allowed),
            ("Bearer one", Push, Some("pub/a"), Denied),
            ("Bearer one", Pull, None, Allowed),
            ("Bearer two", Pull, Some("any/thing"), Allowed),
            ("Bearer two", Push, Some("any/thing"), Denied),
            ("Bearer three", Pull, Some("pub/a"), Unauthenticated),
            ("Bearer ", Pull, Some("pub/a"), Unauthenticated),
            ("nonsense", Pull, Some("pub/a"), Unauthenticated),
            ("", Pull, Some("pub/a"), Allowed),
            (NOBODY, Pull, Some("pub/a"), Allowed),
            ("Bearer anonymous", Pull, Some("pub/a"), Allowed),
            ("Bearer anonymous", Push, Some("pub/a"), Unauthenticated),
            ("Bearer anonymous", Pull, None, Unauthenticated),
            ("", Push, Some("pub/a"), Unauthenticated),
            ("", Pull, Some("shop/cart"), Unauthenticated),
            ("", Pull, None, Unauthenticated),
        ] {
            assert_eq!(decide(header, action, name), decision, "{header} {action:?} {name:?}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        let of = |text: &str| parse(text).unwrap_err();
        assert!(of(&entry("ci", "one", "pull: [A]")).contains("names no repositories"));
        assert!(of(&entry("ci", "one", "puhs: [a]")).contains("puhs"));
        assert!(of("- {name: ci, sha256: abc}").contains("64 hexadecimal digits"));
        assert!(of(&(entry("a", "one", "pull: []") + &entry("b", "one", "pull: []"))).contains("same sha256"));
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn a_changed_file_is_read_again_and_a_broken_one_changes_nothing() {
        let (rights, file) = rights(&entry("ci", "one", "push: [a]"), &[]);
        let push = |token: &str| rights.decide(Some(&format!("Bearer {token}")), Action::Push, Some("a"));
        let replace = |text: &str| {
            fs::write(file.path(), text).unwrap();
            let seen = &rights.file.as_ref().unwrap().seen;
            seen.lock().unwrap().looked = Instant::now() - LOOK_EVERY;
        };
        assert_eq!(push("one"), Decision::Allowed);
        replace("nonsense: [");
        assert_eq!(push("one"), Decision::Allowed);
        replace(&entry("other", "another", "push: [a]"));
        assert_eq!(push("one"), Decision::Unauthenticated);
        assert_eq!(push("another"), Decision::Allowed);
    }
}

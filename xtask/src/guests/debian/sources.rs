//! The machine's own apt sources: which mirrors it can reach, in both formats that apt reads.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};

/// A place to fetch packages from, without the suite.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Mirror {
    pub(super) uri: String,
    pub(super) keyring: Option<String>,
}

/// The mirrors in apt's configuration, without those that carry only updates or foreign packages.
pub(super) fn of_this_machine() -> Result<Vec<Mirror>> {
    let mirrors = read(Path::new("/etc/apt"))?;
    if mirrors.is_empty() {
        bail!("no Debian mirror in /etc/apt/sources.list or /etc/apt/sources.list.d");
    }
    Ok(mirrors)
}

fn read(apt: &Path) -> Result<Vec<Mirror>> {
    let mut files = vec![apt.join("sources.list")];
    let parts = apt.join("sources.list.d");
    if parts.is_dir() {
        let failed = || format!("failed to list {}", parts.display());
        for entry in fs::read_dir(&parts).with_context(failed)? {
            files.push(entry.with_context(failed)?.path());
        }
    }
    files.sort();
    let mut mirrors = Vec::new();
    for file in files.into_iter().filter(|file| file.is_file()) {
        mirrors.extend(read_file(&file)?);
    }
    mirrors.sort_by(|a: &Mirror, b| a.uri.cmp(&b.uri));
    mirrors.dedup_by(|a, b| a.uri == b.uri);
    Ok(mirrors)
}

fn read_file(file: &Path) -> Result<Vec<Mirror>> {
    let parse: fn(&str) -> Vec<Mirror> = match file.extension().and_then(|ext| ext.to_str()) {
        Some("list") => one_line,
        Some("sources") => deb822,
        // Apt ignores other names too.
        _ => return Ok(Vec::new()),
    };
    let text = fs::read_to_string(file).with_context(|| format!("failed to read {}", file.display()))?;
    Ok(parse(&text))
}

/// `deb [signed-by=KEYRING] URI SUITE COMPONENT…`
fn one_line(text: &str) -> Vec<Mirror> {
    let mut mirrors = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let Some(rest) = line.strip_prefix("deb ").map(str::trim_start) else { continue };
        let (options, rest) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some(split) => split,
            None => ("", rest),
        };
        let mut words = rest.split_whitespace();
        let (Some(uri), Some(suite)) = (words.next(), words.next()) else { continue };
        if !carries_the_distribution(&[suite], &words.collect::<Vec<_>>()) {
            continue;
        }
        let keyring = options.split_whitespace().find_map(|option| option.strip_prefix("signed-by="));
        mirrors.push(Mirror { uri: uri.to_owned(), keyring: keyring.and_then(as_keyring_file) });
    }
    mirrors
}

/// Stanzas of `Field: value`, where a line that starts with a space continues the one before.
fn deb822(text: &str) -> Vec<Mirror> {
    let uncommented: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let mut mirrors = Vec::new();
    for stanza in uncommented.split(|line| line.trim().is_empty()) {
        let field = |name: &str| stanza_field(stanza, name).unwrap_or_default();
        let (types, suites, components) = (field("types"), field("suites"), field("components"));
        if field("enabled").eq_ignore_ascii_case("no") || !types.split_whitespace().any(|kind| kind == "deb") {
            continue;
        }
        let suites: Vec<&str> = suites.split_whitespace().collect();
        if !carries_the_distribution(&suites, &components.split_whitespace().collect::<Vec<_>>()) {
            continue;
        }
        for uri in field("uris").split_whitespace() {
            mirrors.push(Mirror { uri: uri.to_owned(), keyring: as_keyring_file(&field("signed-by")) });
        }
    }
    mirrors
}

fn stanza_field(stanza: &[&str], name: &str) -> Option<String> {
    let is_field = |line: &&str| line.split_once(':').is_some_and(|(key, _)| key.eq_ignore_ascii_case(name));
    let at = stanza.iter().position(is_field)?;
    let mut value = stanza[at].split_once(':')?.1.trim().to_owned();
    for line in stanza[at + 1..].iter().take_while(|line| line.starts_with([' ', '\t'])) {
        value.push(' ');
        value.push_str(line.trim());
    }
    Some(value)
}

/// A security or updates archive has no other suites, and a vendor's own has no `main`.
fn carries_the_distribution(suites: &[&str], components: &[&str]) -> bool {
    components.contains(&"main") && suites.iter().any(|suite| !suite.contains("security") && !suite.contains('/'))
}

/// Only a file can be named in the source written for the newer suite; a key given inline or by fingerprint is left to
/// apt's own keyrings.
fn as_keyring_file(signed_by: &str) -> Option<String> {
    (signed_by.starts_with('/') && !signed_by.contains(char::is_whitespace)).then(|| signed_by.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mirror(uri: &str, keyring: Option<&str>) -> Mirror {
        Mirror { uri: uri.to_owned(), keyring: keyring.map(str::to_owned) }
    }

    #[test]
    fn one_line_sources() {
        let text = "# deb http://off.example/debian stable main\n\
                    deb http://a.example/debian bookworm main contrib # here\n\
                    deb-src http://src.example/debian bookworm main\n\
                    deb [arch=amd64 signed-by=/k/d.gpg] https://b.example/debian stable main\n\
                    deb http://a.example/debian-security bookworm-security main\n\
                    deb https://vendor.example/apt stable vendor\n\
                    deb http://broken.example\n";
        let want = [mirror("http://a.example/debian", None), mirror("https://b.example/debian", Some("/k/d.gpg"))];
        assert_eq!(one_line(text), want);
    }

    #[test]
    fn deb822_sources() {
        let text = "Types: deb deb-src\n# a comment inside\nURIs: http://a.example/debian\n http://b.example/debian\n\
                    Suites: bookworm bookworm-updates\nComponents: main\nSigned-By: /k/d.gpg\n\n\
                    Types: deb\nURIs: http://a.example/debian-security\nSuites: bookworm-security\nComponents: main\n\n\
                    Types: deb\nEnabled: no\nURIs: http://off.example/debian\nSuites: stable\nComponents: main\n\n\
                    types: deb\nuris: http://c.example/debian\nsuites: stable\ncomponents: main\nSigned-By:\n -----BEGIN\n .\n";
        let want = [
            mirror("http://a.example/debian", Some("/k/d.gpg")),
            mirror("http://b.example/debian", Some("/k/d.gpg")),
            mirror("http://c.example/debian", None),
        ];
        assert_eq!(deb822(text), want);
    }

    #[test]
    fn a_folder_of_both_formats_is_read_and_other_names_are_ignored() {
        let apt = tempfile::tempdir().unwrap();
        let parts = apt.path().join("sources.list.d");
        fs::create_dir(&parts).unwrap();
        let line = |host: &str| format!("deb http://{host}.example/debian stable main\n");
        fs::write(apt.path().join("sources.list"), line("b")).unwrap();
        fs::write(parts.join("a.list"), line("a") + &line("b")).unwrap();
        fs::write(parts.join("c.list.disabled"), line("c")).unwrap();
        let deb822 = "Types: deb\nURIs: http://d.example/debian\nSuites: stable\nComponents: main\n";
        fs::write(parts.join("d.sources"), deb822).unwrap();
        let want = ["a", "b", "d"].map(|host| mirror(&format!("http://{host}.example/debian"), None));
        assert_eq!(read(apt.path()).unwrap(), want);
    }
}

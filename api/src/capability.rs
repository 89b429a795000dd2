//! What a component may import, and what stands between an import and the world.
//!
//! One list for everybody: `skiff inspect` explains with it, apply refuses by it, and a node links by it, so that the three
//! cannot disagree. The ambient interfaces are there for every component, because language runtimes import them whether
//! they use them or not; each is denied or bounded at the call.

/// What an import means to a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Linked for every component; the text says what it can reach.
    Ambient { reach: &'static str },
    /// Linked as well, and of no use to a service whose manifest does not have this line.
    Granted { reach: &'static str, line: &'static str },
    /// Known, but in another version than `offered`.
    OtherVersion { offered: &'static str },
    /// Nobody offers it.
    Unknown,
}

/// The version of the ambient interfaces, up to the patch: WASI 0.2 is compatible within itself.
const WASI_VERSION: &str = "0.2";

/// Interfaces by their prefix, the longer one first where two fit.
const AMBIENT: [(&str, &str); 15] = [
    ("wasi:cli/environment", "the service's env and args"),
    ("wasi:cli/stdin", "empty, or an attached client's; a worker's ends when it is to stop"),
    ("wasi:cli/stdout", "the replica's log"),
    ("wasi:cli/stderr", "the replica's log"),
    ("wasi:cli/", "ends its own request or run, sees whether an attached client has a terminal"),
    (CONFIG_NAME, "what the service's config and secrets name"),
    ("wasi:clocks/", "reads the time, sleeps"),
    ("wasi:filesystem/", "denied: no folder is shared"),
    ("wasi:http/outgoing-handler", "denied but for what allow.services and allow.http name"),
    ("wasi:http/types", "its own requests and answers"),
    ("wasi:io/", "its own streams"),
    (KEYVALUE_NAME, "the buckets that the service's keyvalue names"),
    ("wasi:random/", "random bytes, up to 64 KiB a call"),
    ("wasi:sockets/", "denied but for connections to what allow.tcp names"),
    (HANDLER_NAME, "what answers requests: export it, do not import it"),
];

/// For people: the packages that every component may import.
pub const AMBIENT_TEXT: &str = "wasi:cli, wasi:clocks, wasi:config, wasi:filesystem, wasi:http, wasi:io, wasi:keyvalue, wasi:random and wasi:sockets, each in version 0.2 (wasi:config in 0.2.0-rc.1, wasi:keyvalue in 0.2.0-draft2)";

/// What a component exports to answer requests, in any patch version.
pub const HTTP_HANDLER: &str = "wasi:http/incoming-handler@0.2";

/// What a component exports to run on its own, in any patch version.
pub const RUN: &str = "wasi:cli/run@0.2";

const CONFIG_NAME: &str = "wasi:config/store";

const KEYVALUE_NAME: &str = "wasi:keyvalue/";

/// What has no stable version yet: there is this one, and no other that is compatible.
const UNSTABLE: [(&str, &str); 2] = [(CONFIG_NAME, "0.2.0-rc.1"), (KEYVALUE_NAME, "0.2.0-draft2")];

/// What a manifest says so that its guests have buckets.
const KEYVALUE_LINE: &str = "keyvalue: [{bucket: NAME}]";

const RUN_NAME: &str = "wasi:cli/run";

const HANDLER_NAME: &str = "wasi:http/incoming-handler";

/// What an import such as `wasi:http/types@0.2.12` means.
pub fn access(import: &str) -> Access {
    let (name, version) = import.split_once('@').unwrap_or((import, ""));
    let fits = |prefix: &str| if prefix.ends_with('/') { name.starts_with(prefix) } else { name == prefix };
    let Some((prefix, reach)) = AMBIENT.iter().find(|(prefix, _)| fits(prefix)) else { return Access::Unknown };
    if *prefix == HANDLER_NAME {
        return Access::Unknown;
    }
    let exact = UNSTABLE.iter().find(|(name, _)| name == prefix).map(|(_, exact)| *exact);
    match (exact, is_offered(version)) {
        (Some(exact), _) if version != exact => Access::OtherVersion { offered: exact },
        (None, false) => Access::OtherVersion { offered: WASI_VERSION },
        _ if *prefix == KEYVALUE_NAME => Access::Granted { reach, line: KEYVALUE_LINE },
        _ => Access::Ambient { reach },
    }
}

/// The first import that no node would link, and why, as the end of a sentence that names the component.
pub fn refused<'a>(imports: impl IntoIterator<Item = &'a str>) -> Option<(&'a str, String)> {
    imports.into_iter().find_map(|import| match access(import) {
        Access::Ambient { .. } | Access::Granted { .. } => None,
        Access::OtherVersion { offered } => Some((import, format!("which is offered in version {offered} only"))),
        Access::Unknown => Some((import, "which no node offers".to_owned())),
    })
}

/// The first import that needs a line in the manifest, and the line.
pub fn needed<'a>(imports: impl IntoIterator<Item = &'a str>) -> Option<(&'a str, &'static str)> {
    imports.into_iter().find_map(|import| match access(import) {
        Access::Granted { line, .. } => Some((import, line)),
        Access::Ambient { .. } | Access::OtherVersion { .. } | Access::Unknown => None,
    })
}

/// Whether a component with these exports answers requests.
pub fn answers_requests<'a>(exports: impl IntoIterator<Item = &'a str>) -> bool {
    exports.into_iter().any(|export| is_offered_as(export, HANDLER_NAME))
}

/// Whether a component with these exports runs on its own. One that answers requests as well is put requests to, and is
/// never run.
pub fn runs_alone<'a>(exports: impl IntoIterator<Item = &'a str> + Clone) -> bool {
    !answers_requests(exports.clone()) && exports.into_iter().any(|export| is_offered_as(export, RUN_NAME))
}

fn is_offered_as(export: &str, wanted: &str) -> bool {
    export.split_once('@').is_some_and(|(name, version)| name == wanted && is_offered(version))
}

fn is_offered(version: &str) -> bool {
    version.strip_prefix(WASI_VERSION).is_some_and(|rest| rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_names_and_the_right_version_are_ambient() {
        assert!(matches!(access("wasi:http/types@0.2.12"), Access::Ambient { .. }));
        assert!(matches!(access("wasi:io/streams@0.2.0"), Access::Ambient { .. }));
        assert_eq!(access("wasi:http/types@0.3.0"), Access::OtherVersion { offered: "0.2" });
        assert_eq!(access("wasi:http/types@0.20.0"), Access::OtherVersion { offered: "0.2" });
        assert!(matches!(access("wasi:config/store@0.2.0-rc.1"), Access::Ambient { .. }));
        assert!(matches!(access("wasi:keyvalue/batch@0.2.0-draft2"), Access::Granted { .. }));
        let needed = needed(["wasi:io/poll@0.2.1", "wasi:keyvalue/store@0.2.0-draft2"]);
        assert_eq!(needed, Some(("wasi:keyvalue/store@0.2.0-draft2", "keyvalue: [{bucket: NAME}]")));
        assert_eq!(access("wasi:keyvalue/store@0.2.0"), Access::OtherVersion { offered: "0.2.0-draft2" });
        assert_eq!(access("wasi:config/store@0.2.0-draft"), Access::OtherVersion { offered: "0.2.0-rc.1" });
        assert_eq!(access("wasi:io/streams"), Access::OtherVersion { offered: "0.2" });
        for unknown in [
            "wasi:blobstore/container@0.2.0",
            "wasi:httpx/types@0.2.0",
            "wasi:http/typesx@0.2.0",
            "wasi:http",
            "log",
            "",
        ] {
            assert_eq!(access(unknown), Access::Unknown, "{unknown}");
        }
    }

    #[test]
    fn the_first_refused_import_is_named_with_its_reason() {
        assert_eq!(refused(["wasi:io/poll@0.2.1"]), None);
        let (import, why) = refused(["wasi:io/poll@0.2.1", "wasi:clocks/types@0.3.0", "log"]).unwrap();
        assert_eq!((import, why.as_str()), ("wasi:clocks/types@0.3.0", "which is offered in version 0.2 only"));
        assert_eq!(refused(["wasi:http/incoming-handler@0.2.0"]).unwrap().1, "which no node offers");
    }

    #[test]
    fn only_a_handler_of_the_right_version_answers_requests() {
        assert!(answers_requests(["wasi:cli/run@0.2.0", "wasi:http/incoming-handler@0.2.10"]));
        for other in
            ["wasi:http/handler@0.3.0", "wasi:http/incoming-handler@0.3.0", "wasi:http/incoming-handler", "run"]
        {
            assert!(!answers_requests([other]), "{other}");
        }
    }

    #[test]
    fn what_answers_requests_does_not_run_alone() {
        assert!(runs_alone(["wasi:cli/run@0.2.6"]));
        for other in [&["wasi:cli/run@0.2.6", "wasi:http/incoming-handler@0.2.0"][..], &["wasi:cli/run@0.3.0"], &[]] {
            assert!(!runs_alone(other.iter().copied()), "{other:?}");
        }
    }

    #[test]
    fn the_text_names_every_package() {
        for (prefix, _) in AMBIENT {
            let package = prefix.split('/').next().unwrap();
            assert!(AMBIENT_TEXT.contains(package), "{package}");
        }
    }
}

//! Configs, Secrets, and the fields of a service that name them, or buckets.

use std::collections::BTreeSet;

use super::{Fault, metadata, quoted};
use crate::id::Name;
use crate::resource::{Config, Secret, ServiceSpec};

/// All values of one object, in the clear. Every replica that reads it gets all of it.
pub const DATA_BYTES_MAX: usize = 64 << 10;
/// A sealed value is longer than what is in it, by half and a little; who opens it knows how long that is.
const SEALED_BYTES_MAX: usize = 160 << 10;
const KEY_BYTES_MAX: usize = 253;
/// Configs and Secrets of one service, each.
const SOURCES_MAX: usize = 16;

/// Everything that is wrong with a Config.
pub fn config(config: &Config) -> Vec<Fault> {
    let mut faults = metadata(&config.metadata);
    let data = config.spec.data.iter();
    entries(data.map(|(key, value)| (key.as_str(), value.as_str())), DATA_BYTES_MAX, &mut faults);
    faults
}

/// Everything that is wrong with a Secret, whether its values are sealed or not. No fault shows a value.
pub fn secret(secret: &Secret) -> Vec<Fault> {
    let mut faults = metadata(&secret.metadata);
    let data = secret.spec.data.iter();
    entries(data.map(|(key, value)| (key.as_str(), value.reveal())), SEALED_BYTES_MAX, &mut faults);
    faults
}

fn entries<'a>(data: impl Iterator<Item = (&'a str, &'a str)>, bytes_max: usize, faults: &mut Vec<Fault>) {
    let mut bytes = 0;
    for (key, value) in data {
        bytes += key.len() + value.len();
        let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if key.is_empty() || key.len() > KEY_BYTES_MAX || !key.bytes().all(is_allowed) {
            let hint = "up to 253 letters, digits, '-', '_' and '.'";
            faults.push(Fault::new("data", format!("{} is not a key", quoted(key)), hint));
        } else if value.contains('\0') {
            faults.push(Fault::new(
                format!("data.{key}"),
                "the value has a NUL character",
                "encode it, as base64 does",
            ));
        }
    }
    if bytes > bytes_max {
        let message = format!("{bytes} bytes of keys and values are more than the {bytes_max} that are allowed");
        faults.push(Fault::new("data", message, "split it, or keep large data in an image or a bucket"));
    }
}

/// The fields of a service that name Configs, Secrets and buckets.
pub(super) fn sources(spec: &ServiceSpec, faults: &mut Vec<Fault>) {
    for (field, names) in [("config", &spec.config), ("secrets", &spec.secrets), ("envFrom", &spec.env_from)] {
        if names.len() > SOURCES_MAX {
            let message = format!("{} entries are more than the {SOURCES_MAX} that a service may have", names.len());
            faults.push(Fault::new(field, message, ""));
        }
        let mut seen = BTreeSet::new();
        for (i, name) in names.iter().enumerate().filter(|(_, name)| !seen.insert(*name)) {
            faults.push(Fault::new(format!("{field}[{i}]"), format!("{name} is there twice"), "remove one of the two"));
        }
    }
    if spec.keyvalue.len() > SOURCES_MAX {
        let message =
            format!("{} entries are more than the {SOURCES_MAX} that a service may have", spec.keyvalue.len());
        faults.push(Fault::new("keyvalue", message, ""));
    }
    let mut seen = BTreeSet::new();
    for (i, grant) in spec.keyvalue.iter().enumerate().filter(|(_, grant)| !seen.insert(&grant.bucket)) {
        let message = format!("the bucket {} is there twice", grant.bucket);
        faults.push(Fault::new(format!("keyvalue[{i}].bucket"), message, "remove one of the two"));
    }
    redis(spec, faults);
    let is_source = |name: &Name| spec.config.contains(name) || spec.secrets.contains(name);
    for (i, name) in spec.env_from.iter().enumerate().filter(|(_, name)| !is_source(name)) {
        let message = format!("{name} is none of the service's configs and secrets");
        faults.push(Fault::new(format!("envFrom[{i}]"), message, "name it in `config` or `secrets` as well"));
    }
}

/// Keys of a bucket in a Redis are what guests say, behind this.
const PREFIX_BYTES_MAX: usize = 256;

fn redis(spec: &ServiceSpec, faults: &mut Vec<Fault>) {
    for (i, grant) in spec.keyvalue.iter().enumerate() {
        let field = |name: &str| format!("keyvalue[{i}].{name}");
        let is_there = grant.redis.is_some();
        if is_there && !grant.scope.is_default() {
            faults.push(Fault::new(field("scope"), "it is for buckets that Skiff keeps", "leave out scope, or redis"));
        }
        for (name, is_set) in [("passwordKey", grant.password_key.is_some()), ("prefix", !grant.prefix.is_empty())] {
            if is_set && !is_there {
                faults.push(Fault::new(
                    field(name),
                    "it is for buckets in a Redis",
                    "write redis: redis://HOST:6379/0",
                ));
            }
        }
        if grant.password_key.is_some() && spec.secrets.is_empty() {
            let hint = "name the Secret that has the key: secrets: [NAME]";
            faults.push(Fault::new(field("passwordKey"), "the service has no secrets", hint));
        }
        if grant.prefix.len() > PREFIX_BYTES_MAX || grant.prefix.contains(char::is_control) {
            let message = format!("it is none of up to {PREFIX_BYTES_MAX} bytes of text");
            faults.push(Fault::new(field("prefix"), message, ""));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::{ConfigSpec, Metadata};

    fn of(key: &str, value: &str) -> Vec<String> {
        let mut spec = ConfigSpec::default();
        spec.data.insert(key.to_owned(), value.to_owned());
        let faults = config(&Config::new(Metadata::new("default".parse().ok(), "cart"), spec));
        faults.into_iter().map(|fault| fault.field).collect()
    }

    #[test]
    fn keys_and_sizes_are_bounded() {
        assert!(of("tls.crt", "x").is_empty());
        for key in ["", "a b", "ü", &"x".repeat(254)] {
            assert_eq!(of(key, "x"), ["data"], "{key}");
        }
        assert_eq!(of("a", "x\0"), ["data.a"]);
        assert_eq!(of("a", &"x".repeat(DATA_BYTES_MAX)), ["data"]);
    }

    #[test]
    fn the_environment_comes_from_what_is_named() {
        let mut spec = ServiceSpec::new("cart:1".parse().unwrap());
        let names = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect::<Vec<Name>>();
        (spec.config, spec.secrets, spec.env_from) = (names(&["a"]), names(&["b"]), names(&["a", "b", "c", "a"]));
        let mut faults = Vec::new();
        sources(&spec, &mut faults);
        let fields: Vec<_> = faults.into_iter().map(|fault| fault.field).collect();
        assert_eq!(fields, ["envFrom[3]", "envFrom[2]"]);
    }
}

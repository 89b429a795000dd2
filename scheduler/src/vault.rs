//! The cluster's secrets: sealed in the store and in every answer, in the clear only in memory and on the way to nodes.

use std::collections::BTreeMap;

use skiff_api::Name;
use skiff_api::resource::{Secret, SecretText};
use skiff_disk::{OpenError, SealKey};

/// Seals and opens the values of Secrets. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Vault(SealKey);

/// A value that was written as though it were sealed, and does not open.
#[derive(Debug, thiserror::Error)]
#[error("data.{key} looks sealed, and does not open: {why}")]
pub struct SealError {
    pub key: String,
    #[source]
    pub why: OpenError,
}

impl Vault {
    pub fn new(key: SealKey) -> Self {
        Self(key)
    }

    /// Seals what is in the clear. What is sealed must open here: its key may be another cluster's, or its place another's.
    /// Answers how many bytes of keys and values in the clear that is.
    pub fn seal(
        &self,
        namespace: &Name,
        name: &str,
        data: &mut BTreeMap<String, SecretText>,
    ) -> Result<usize, SealError> {
        let mut bytes = 0;
        for (key, text) in data {
            let place = [namespace.as_str(), name, key];
            bytes += key.len();
            if SealKey::is_sealed(text.reveal()) {
                let opened = self.0.unseal(&place, text.reveal());
                bytes += opened.map_err(|why| SealError { key: key.clone(), why })?.len();
            } else {
                bytes += text.reveal().len();
                *text = SecretText::new(self.0.seal(&place, text.reveal()));
            }
        }
        Ok(bytes)
    }

    /// The values of a Secret in the clear, if each opens.
    pub fn open(&self, secret: &Secret) -> Result<BTreeMap<String, SecretText>, SealError> {
        let namespace = secret.metadata.namespace.as_ref().map_or("", Name::as_str);
        let open = |(key, text): (&String, &SecretText)| {
            let place = [namespace, secret.metadata.name.as_str(), key];
            let opened = self.0.unseal(&place, text.reveal());
            let opened = opened.map_err(|why| SealError { key: key.clone(), why })?;
            Ok((key.clone(), SecretText::new(opened)))
        };
        secret.spec.data.iter().map(open).collect()
    }
}

#[cfg(test)]
mod tests {
    use skiff_api::resource::{Metadata, SecretSpec};

    use super::*;

    #[test]
    fn what_is_sealed_stays_so_and_opens_where_it_belongs() {
        let vault = Vault::new(SealKey::generate().unwrap());
        let shop: Name = "shop".parse().unwrap();
        let mut data = BTreeMap::from([("KEY".to_owned(), SecretText::new("hunter2"))]);
        assert_eq!(vault.seal(&shop, "stripe", &mut data).unwrap(), 10);
        let sealed = data.clone();
        assert_eq!(vault.seal(&shop, "stripe", &mut data).unwrap(), 10);
        assert_eq!(data, sealed, "sealed once");
        assert_eq!(vault.seal(&shop, "other", &mut data).unwrap_err().key, "KEY");

        let secret = Secret::new(Metadata::new(Some(shop), "stripe"), SecretSpec { data });
        assert_eq!(vault.open(&secret).unwrap()["KEY"].reveal(), "hunter2");
        assert!(Vault::new(SealKey::generate().unwrap()).open(&secret).is_err());
    }
}

//! What the service's Configs and Secrets say (feature `config`).
//!
//! ```no_run
//! #[skiff_sdk::handler]
//! fn handle(_request: skiff_sdk::Request) -> Result<String, skiff_sdk::Error> {
//!     let key = skiff_sdk::config::require("STRIPE_KEY")?;
//!     let region = skiff_sdk::config::get("REGION").unwrap_or_else(|| "eu".to_owned());
//!     Ok(format!("a key of {} characters, in {region}\n", key.len()))
//! }
//! ```
//! A manifest names them: `config: [app]`, `secrets: [stripe]`. A Secret reads as a Config does; neither is in the
//! environment unless the manifest says `envFrom`. Each read sees the newest value.

use crate::Error;
use crate::bindings::wasi::config::store;

/// The value of a key, if what the service names has it.
pub fn get(key: &str) -> Option<String> {
    // A node answers from memory: there is nothing that could fail.
    store::get(key).ok().flatten()
}

/// The value of a key without which the service cannot work. The caller of a request gets a 500 without details; the log
/// names the key.
pub fn require(key: &str) -> Result<String, Error> {
    get(key).ok_or_else(|| {
        crate::error!("no Config or Secret of this service has the key {key}: name one in `config` or `secrets`");
        Error::new(500, "internal error")
    })
}

/// Every key with its value.
pub fn all() -> Vec<(String, String)> {
    store::get_all().unwrap_or_default()
}

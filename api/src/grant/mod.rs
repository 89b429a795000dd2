//! Grants: what a service may reach, and who may reach it.
//!
//! Nothing is reachable unless a manifest names it. A service's `allow` says what its guests may call; `http.callers` says
//! which services may call it; a namespace's `allow` says what the services in it may allow themselves. All of it is
//! parsed here, strictly, and both sides decide with it: the control plane when it takes a manifest, the node at each
//! call.
//!
//! An address is checked after its name was resolved, whatever the name was: a name that is granted reaches public
//! addresses, and others only where a range of them is granted ([`AddressRange`], [`AddressClass`]).

mod address;
mod allow;
mod contained;
mod http;
mod path;
mod privilege;
mod service;
mod tcp;

pub use address::{AddressClass, AddressRange, InvalidRange};
pub use allow::{Allow, Grants, Lack};
pub use contained::{Ports, Unfit};
pub use http::{Host, HttpPattern, InvalidOrigin, InvalidPattern, Origin, Scheme};
pub use path::{FullPath, InvalidFullPath};
pub use privilege::{InvalidPrivilege, Privilege};
pub use service::{InvalidServicePattern, ServicePattern, service_at};
pub use tcp::{InvalidTcpPattern, TcpPattern};

/// Types that are written as text: serde and the schema go through `FromStr` and `Display`.
macro_rules! as_text {
    ($type:ty) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        #[cfg(feature = "schema")]
        impl utoipa::PartialSchema for $type {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                utoipa::openapi::ObjectBuilder::new().schema_type(utoipa::openapi::Type::String).into()
            }
        }

        #[cfg(feature = "schema")]
        impl utoipa::ToSchema for $type {}
    };
}
pub(crate) use as_text;

/// What is quoted of a text that is wrong.
pub(crate) fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

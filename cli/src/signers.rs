//! Who signed an image, and what the policies of a namespace make of that: what `skiff inspect` shows.

use serde_json::{Value, json};
use skiff_api::client::{ListQuery, Scope};
use skiff_api::resource::{ImagePolicy, ImagePolicySpec};
use skiff_api::trust::PublicKey;
use skiff_api::{Digest, ImageRef, Kind, Name, Trust};
use skiff_registry::sign::judge::{Seen, What};
use skiff_registry::sign::{judge, look};

use crate::context::Context;
use crate::output::table;
use crate::place::Place;

/// What was found.
pub(crate) struct Signers {
    pub(crate) seen: Vec<Seen>,
    skipped: Vec<String>,
    verdict: Verdict,
}

/// What the policies of the namespace say.
enum Verdict {
    /// There is no cluster to ask.
    Unknown,
    NoPolicy,
    Accepted(Vec<String>),
    Refused(String),
}

impl Signers {
    /// Looks for the signatures of an image. Without a cluster nobody's keys are known.
    pub(crate) async fn find(
        context: Option<&Context>,
        place: &Place,
        image: &ImageRef,
        namespace: &Name,
        digest: &Digest,
    ) -> Result<Self, crate::exit::Failure> {
        let attached = place.client.signatures(&place.repository, digest).await?;
        let policies = match context {
            Some(context) => policies(context, namespace).await,
            None => None,
        };
        let known = policies.as_deref().unwrap_or_default();
        let keys: Vec<PublicKey> = known.iter().flat_map(|policy| policy.spec.keys.iter().cloned()).collect();
        let seen = look(&attached, digest, &keys);
        let image = if place.registry.is_some() { image.clone() } else { image.without_registry() };
        let named = known.iter().map(|policy| (policy.metadata.name.as_str(), &policy.spec));
        let verdict = match (&policies, Trust::of(named, &image, namespace.as_str())) {
            (None, _) => Verdict::Unknown,
            (Some(_), None) => Verdict::NoPolicy,
            (Some(_), Some(trust)) => match judge(&trust, digest, &attached) {
                Ok(()) => Verdict::Accepted(trust.policies.into_keys().collect()),
                Err(refusal) => Verdict::Refused(refusal.to_string()),
            },
        };
        Ok(Self { seen, skipped: attached.skipped, verdict })
    }

    /// One line.
    pub(crate) fn verdict(&self) -> String {
        let found = self.seen.len();
        let signatures = format!("{found} signature{}", if found == 1 { "" } else { "s" });
        match &self.verdict {
            Verdict::Unknown => format!("{signatures}; no cluster to ask whose"),
            Verdict::NoPolicy => format!("{signatures}; the namespace has no image policy"),
            Verdict::Accepted(policies) => format!("{signatures}; accepted by image policy {}", policies.join(", ")),
            Verdict::Refused(why) => format!("{signatures}; refused: {why}"),
        }
    }

    /// A table, where there is anything to show.
    pub(crate) fn table(&self) -> Option<String> {
        let rows = self.seen.iter().map(|seen| {
            let [status, key] = cells(&seen.what);
            vec![seen.form.name().to_owned(), status, key]
        });
        let skipped = self.skipped.iter().map(|what| vec!["-".to_owned(), format!("not read: {what}"), "-".to_owned()]);
        let rows: Vec<_> = rows.chain(skipped).collect();
        (!rows.is_empty()).then(|| table::render(&["SIGNATURE", "STATUS", "KEY"], rows))
    }

    pub(crate) fn value(&self) -> Value {
        let signatures: Vec<Value> = self
            .seen
            .iter()
            .map(|seen| {
                let form = seen.form.name();
                match &seen.what {
                    What::Signed { key, algorithm } => {
                        json!({"form": form, "status": "signed", "key": key, "algorithm": algorithm.name()})
                    }
                    What::OtherKey { hint } => json!({"form": form, "status": "other-key", "hint": hint}),
                    What::Unfit(unfit) => json!({"form": form, "status": "invalid", "why": unfit.to_string()}),
                }
            })
            .collect();
        let (verdict, policies, why) = match &self.verdict {
            Verdict::Unknown => ("unknown", None, None),
            Verdict::NoPolicy => ("no-policy", None, None),
            Verdict::Accepted(policies) => ("accepted", Some(policies), None),
            Verdict::Refused(why) => ("refused", None, Some(why)),
        };
        json!({"signatures": signatures, "notRead": self.skipped, "verdict": verdict, "policies": policies, "why": why})
    }
}

fn cells(what: &What) -> [String; 2] {
    match what {
        What::Signed { key, algorithm } => ["signed".to_owned(), format!("{} {key}", algorithm.name())],
        What::OtherKey { hint } => {
            let key = hint.as_ref().map_or_else(|| "unknown".to_owned(), |hint| format!("says {hint}"));
            ["of no key that a policy names".to_owned(), key]
        }
        What::Unfit(unfit) => [format!("does not count: {unfit}"), "-".to_owned()],
    }
}

/// The policies of a namespace, as far as there is somebody to ask.
async fn policies(context: &Context, namespace: &Name) -> Option<Vec<ImagePolicy>> {
    let scope = Scope::Namespace(namespace.clone());
    let listed = context.client().ok()?.list_values(Kind::ImagePolicy, &scope, &ListQuery::default()).await.ok()?;
    let read = |value: Value| serde_json::from_value::<skiff_api::resource::Object<ImagePolicySpec>>(value).ok();
    listed.items.into_iter().map(read).collect()
}

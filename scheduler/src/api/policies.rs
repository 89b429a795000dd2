//! Image policies: nothing is written that would run an image whose signatures do not fulfil them.
//!
//! Nodes ask the same again before they start it: this is where a person is told in time. So a policy that is written at
//! the same moment as a service needs no lock between the two.

use skiff_api::resource::{ImagePolicySpec, Selector, Service};
use skiff_api::{Code, Kind, Problem, Trust};
use skiff_registry::sign::{Refusal, judge};

use super::ApiState;
use super::failure::Result;
use crate::objects::ObjectKey;

/// Checks the image of a service or job, which is pinned, against the policies of its namespace.
pub(super) async fn check(state: &ApiState, kind: Kind, service: &Service) -> Result<()> {
    let Some(namespace) = service.metadata.namespace.as_ref() else { return Ok(()) };
    let policies = state.objects.list::<ImagePolicySpec>(Some(namespace), &Selector::default()).await?.items;
    let image = &service.spec.image;
    let named = policies.iter().map(|policy| (policy.metadata.name.as_str(), &policy.spec));
    let Some(trust) = Trust::of(named, image, namespace.as_str()) else { return Ok(()) };
    let object = || ObjectKey::new(kind, Some(namespace), service.metadata.name.as_str()).to_string();
    let Some(digest) = image.digest() else {
        let detail = format!("image {image} has no digest, so nobody can have signed it");
        return Err(Problem::new(Code::NotSigned, detail).object(object()).into());
    };
    let repository = image.repository_in(namespace.as_str());
    let verdict = match trust.policies.is_empty() {
        // What is there does not matter.
        true => judge(&trust, digest, &Default::default()),
        false => {
            let attached = state.images.signatures(&repository, digest).await?;
            match judge(&trust, digest, &attached) {
                // Signed there since it was copied?
                Err(_) if image.registry().is_some() => {
                    state.images.copy_signatures(image, &repository, digest).await?;
                    judge(&trust, digest, &state.images.signatures(&repository, digest).await?)
                }
                verdict => verdict,
            }
        }
    };
    verdict.map_err(|refusal| problem(&refusal, service).object(object()).into())
}

fn problem(refusal: &Refusal, service: &Service) -> Problem {
    let detail = format!("image {} may not run here: {refusal}", service.spec.image.without_digest());
    Problem::new(Code::NotSigned, detail).hint(refusal.hint())
}

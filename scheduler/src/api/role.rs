//! What a service's image makes of it: one that answers requests, or a worker, which runs on its own.
//!
//! The image decides, and the service says so in `spec.worker`, so that nobody needs the image to know whether there is
//! anything to route to. What has no meaning for a worker is refused: a field that does nothing would be taken for one
//! that does.

use skiff_api::resource::{Http, InstanceLimits, ServiceSpec};
use skiff_api::{ImageRef, capability};

use super::failure::{Result, invalid};

/// Whether what was found out for `live` holds for `spec`, if both have the same image.
pub(super) fn is_same(live: &ServiceSpec, spec: &ServiceSpec) -> bool {
    live.worker == spec.worker && live.http == spec.http && live.instance == spec.instance
}

/// Says in `spec` what it is, unless it says something else that its image, with these exports, is not.
pub(super) fn settle(
    image: &ImageRef,
    exports: &[String],
    spec: &mut ServiceSpec,
    live: Option<&ServiceSpec>,
) -> Result<()> {
    let is_worker = capability::runs_alone(exports.iter().map(String::as_str));
    // What is only there because it was found out before, was not written by anybody.
    let written = spec.worker.filter(|worker| live.is_none_or(|live| live.worker != Some(*worker)));
    match written {
        Some(true) if !is_worker => {
            let detail = format!("worker: image {image} answers requests, so it is not a worker");
            return Err(invalid(detail).hint("leave `worker` out: the image decides").into());
        }
        Some(false) if is_worker => {
            let detail = format!("worker: image {image} runs on its own, so it is a worker");
            return Err(invalid(detail).hint("leave `worker` out: the image decides").into());
        }
        _ => {}
    }
    if is_worker && let Some(field) = meaningless(spec) {
        let handler = capability::HTTP_HANDLER;
        let detail =
            format!("{field}: image {image} is a worker and answers no requests: it does not export {handler}");
        let hint = format!("leave {field} out, or build the image as a component for wasi:http");
        return Err(invalid(detail).hint(hint).into());
    }
    spec.worker = is_worker.then_some(true);
    Ok(())
}

/// The first field that does nothing for a worker.
fn meaningless(spec: &ServiceSpec) -> Option<&'static str> {
    let (http, plain) = (&spec.http, Http::default());
    let (instance, once) = (&spec.instance, InstanceLimits::default());
    [
        ("http.routes", http.routes != plain.routes),
        ("http.timeout", http.timeout != plain.timeout),
        ("http.inFlight", http.in_flight != plain.in_flight),
        ("http.callers", http.callers != plain.callers),
        ("health", spec.health.is_some()),
        ("instance.requests", instance.requests != once.requests),
        ("instance.idle", instance.idle != once.idle),
    ]
    .into_iter()
    .find_map(|(field, is_set)| is_set.then_some(field))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(export: &str, live: Option<&ServiceSpec>, change: impl FnOnce(&mut ServiceSpec)) -> Option<ServiceSpec> {
        let mut spec = ServiceSpec::new("cart:1".parse().unwrap());
        change(&mut spec);
        let image = spec.image.clone();
        settle(&image, &[export.to_owned()], &mut spec, live).ok().map(|()| spec)
    }

    const RUN: &str = "wasi:cli/run@0.2.0";
    const HANDLER: &str = "wasi:http/incoming-handler@0.2.0";

    #[test]
    fn the_image_decides_and_nobody_may_say_otherwise() {
        let worker = settled(RUN, None, |_| ()).unwrap();
        assert!(worker.is_worker() && settled(RUN, None, |spec| spec.worker = Some(true)).is_some());
        assert_eq!(settled(HANDLER, None, |_| ()).unwrap().worker, None);
        assert!(settled(HANDLER, None, |spec| spec.worker = Some(true)).is_none());
        assert!(settled(RUN, None, |spec| spec.worker = Some(false)).is_none());
        // The image changed its kind; what stands there is what was found out about the one before.
        let changed = settled(HANDLER, Some(&worker), |spec| spec.worker = Some(true)).unwrap();
        assert_eq!(changed.worker, None);
    }

    #[test]
    fn a_worker_has_no_use_for_http() {
        let callers = || skiff_api::resource::Callers(Some(Vec::new()));
        assert!(settled(RUN, None, |spec| spec.http.in_flight = 3).is_none());
        assert!(settled(RUN, None, |spec| spec.http.callers = callers()).is_none());
        assert!(settled(RUN, None, |spec| spec.instance.requests = 3).is_none());
        assert!(settled(HANDLER, None, |spec| spec.http.in_flight = 3).is_some());
    }

    #[test]
    fn what_was_found_out_is_found_out_again_when_it_might_not_hold() {
        let live = settled(RUN, None, |_| ()).unwrap();
        let mut spec = live.clone();
        spec.replicas = 3.into();
        assert!(is_same(&live, &spec));
        spec.http.in_flight = 3;
        assert!(!is_same(&live, &spec));
    }
}

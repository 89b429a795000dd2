//! Garbage collection: whatever happens in between, what is needed stays and what is not goes.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use proptest::prelude::*;
use skiff_api::Digest;
use skiff_disk::Disk;
use skiff_disk::sim::SimDisk;
use skiff_registry::Registry;
use skiff_registry::hash::sha256;
use skiff_registry::manifest::media;
use skiff_registry::store::{Collected, Error, Limits, PutManifest, UploadId};

const REPOSITORIES: [&str; 3] = ["a", "a/b", "c"];
const TAGS: [&str; 2] = ["v1", "v2"];
const BLOBS: usize = 4;

fn impatient() -> Limits {
    Limits { grace: Duration::ZERO, untagged: Duration::ZERO, ..Limits::default() }
}

fn collect(registry: &Registry, retained: &[(String, Digest)]) -> Collected {
    registry.collect(retained, &mut || ControlFlow::Continue(())).unwrap()
}

fn content(n: usize) -> Vec<u8> {
    format!("blob {n}").into_bytes()
}

fn push(registry: &Registry, repository: &str, bytes: &[u8]) -> Digest {
    let id = registry.start_upload(repository).unwrap();
    registry.append_upload(repository, &id, 0, bytes).unwrap();
    registry.finish_upload(repository, &id, &sha256(bytes)).unwrap();
    sha256(bytes)
}

fn put(registry: &Registry, repository: &str, tag: Option<&str>, bytes: &[u8]) -> Result<Digest, Error> {
    let media_type = Some(media::OCI_MANIFEST);
    registry.put_manifest(&PutManifest { repository, media_type, digest: None, tag, bytes }).map(|(digest, _)| digest)
}

fn descriptor(digest: &Digest) -> String {
    format!(r#"{{"mediaType":"a/b","digest":"{digest}","size":1}}"#)
}

/// What happens to a registry.
#[derive(Debug, Clone)]
enum Step {
    Push { repository: usize, blob: usize },
    Start { repository: usize, blob: usize },
    Finish,
    Mount { to: usize, from: usize, blob: usize },
    Image { repository: usize, blobs: BTreeSet<usize>, subject: Option<usize>, tag: Option<usize> },
    Index { repository: usize, children: BTreeSet<usize>, tag: Option<usize> },
    Untag { repository: usize, tag: usize },
    DeleteManifest { at: usize },
    DeleteBlob { repository: usize, blob: usize },
    Retain { at: usize },
    Release { at: usize },
    Collect,
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (repository, blob, at) = (0..REPOSITORIES.len(), 0..BLOBS, 0..64_usize);
    let tag = || proptest::option::of(0..TAGS.len());
    let step = prop_oneof![
        4 => (repository.clone(), blob.clone()).prop_map(|(repository, blob)| Step::Push { repository, blob }),
        1 => (repository.clone(), blob.clone()).prop_map(|(repository, blob)| Step::Start { repository, blob }),
        1 => Just(Step::Finish),
        1 => (repository.clone(), repository.clone(), blob.clone())
            .prop_map(|(to, from, blob)| Step::Mount { to, from, blob }),
        5 => (repository.clone(), proptest::collection::btree_set(blob.clone(), 1..3), proptest::option::of(at.clone()), tag())
            .prop_map(|(repository, blobs, subject, tag)| Step::Image { repository, blobs, subject, tag }),
        3 => (repository.clone(), proptest::collection::btree_set(at.clone(), 0..3), tag())
            .prop_map(|(repository, children, tag)| Step::Index { repository, children, tag }),
        2 => (repository.clone(), 0..TAGS.len()).prop_map(|(repository, tag)| Step::Untag { repository, tag }),
        1 => at.clone().prop_map(|at| Step::DeleteManifest { at }),
        1 => (repository, blob).prop_map(|(repository, blob)| Step::DeleteBlob { repository, blob }),
        1 => at.clone().prop_map(|at| Step::Retain { at }),
        1 => at.prop_map(|at| Step::Release { at }),
        3 => Just(Step::Collect),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..60)
}

/// What a repository should have.
#[derive(Debug, Default, Clone)]
struct Repository {
    tags: BTreeMap<String, Digest>,
    manifests: BTreeMap<Digest, Named>,
    blobs: BTreeSet<Digest>,
}

#[derive(Debug, Default, Clone)]
struct Named {
    children: Vec<Digest>,
    blobs: Vec<Digest>,
    subject: Option<Digest>,
}

/// The obviously right registry. It forgets nothing until it is told what a collection may have taken.
#[derive(Debug, Default)]
struct Model {
    repositories: BTreeMap<String, Repository>,
    retained: Vec<(String, Digest)>,
    uploads: Vec<(String, UploadId, usize)>,
}

impl Model {
    fn of(&mut self, repository: &str) -> &mut Repository {
        self.repositories.entry(repository.to_owned()).or_default()
    }

    /// Manifests and blobs that must stay: found by looking again and again until nothing is added.
    fn needed(&self, name: &str) -> (BTreeSet<Digest>, BTreeSet<Digest>) {
        let empty = Repository::default();
        let repository = self.repositories.get(name).unwrap_or(&empty);
        let mut manifests: BTreeSet<Digest> = repository.tags.values().cloned().collect();
        manifests.extend(self.retained.iter().filter(|(of, _)| of == name).map(|(_, digest)| digest.clone()));
        loop {
            let before = manifests.len();
            for (digest, named) in &repository.manifests {
                if named
                    .subject
                    .as_ref()
                    .is_some_and(|subject| manifests.contains(subject) && repository.manifests.contains_key(subject))
                {
                    manifests.insert(digest.clone());
                }
                if manifests.contains(digest) {
                    manifests.extend(named.children.iter().cloned());
                }
            }
            if manifests.len() == before {
                break;
            }
        }
        manifests.retain(|digest| repository.manifests.contains_key(digest));
        let blobs = manifests.iter().flat_map(|digest| repository.manifests[digest].blobs.clone()).collect();
        (manifests, blobs)
    }

    /// The digest of some manifest of a repository.
    fn some(&self, name: &str, at: usize) -> Option<Digest> {
        let manifests = &self.repositories.get(name)?.manifests;
        manifests.keys().nth(at % manifests.len().max(1)).cloned()
    }

    /// All that is needed is there, whole, and was not deleted by anybody.
    fn check(&self, registry: &Registry) {
        for name in REPOSITORIES {
            let (manifests, blobs) = self.needed(name);
            for digest in manifests {
                assert!(registry.manifest(name, &digest).unwrap().is_some(), "{name} lost manifest {digest}");
            }
            for digest in blobs.iter().filter(|digest| self.repositories[name].blobs.contains(digest)) {
                let blob = registry.blob(name, digest).unwrap().unwrap_or_else(|| panic!("{name} lost blob {digest}"));
                assert_eq!(sha256(&blob.file.read_all(1 << 20).unwrap()), *digest);
            }
            for (tag, digest) in &self.repositories.get(name).cloned().unwrap_or_default().tags {
                assert_eq!(registry.resolve(name, tag).unwrap().as_ref(), Some(digest));
            }
        }
    }

    /// Forgets what nothing needs: it may be there or not.
    fn settle(&mut self, disk: &Disk) {
        for name in REPOSITORIES {
            let Some(repository) = self.repositories.get_mut(name) else { continue };
            // Asking the registry would touch it.
            let (manifests, blobs) = (linked(disk, name, "_manifests"), linked(disk, name, "_blobs"));
            repository.manifests.retain(|digest, _| manifests.contains(digest));
            repository.blobs.retain(|digest| blobs.contains(digest));
        }
    }
}

fn take(registry: &mut Registry, sim: &SimDisk, model: &mut Model, step: &Step) {
    match step {
        Step::Push { repository, blob } => {
            let name = REPOSITORIES[*repository];
            let digest = push(registry, name, &content(*blob));
            model.of(name).blobs.insert(digest);
        }
        Step::Start { repository, blob } => {
            let name = REPOSITORIES[*repository];
            let id = registry.start_upload(name).unwrap();
            registry.append_upload(name, &id, 0, &content(*blob)[..3]).unwrap();
            registry.keep_upload(name, &id).unwrap();
            model.uploads.push((name.to_owned(), id, *blob));
        }
        Step::Finish => {
            let Some((name, id, blob)) = model.uploads.pop() else { return };
            registry.append_upload(&name, &id, 3, &content(blob)[3..]).unwrap();
            registry.finish_upload(&name, &id, &sha256(&content(blob))).unwrap();
            model.of(&name).blobs.insert(sha256(&content(blob)));
        }
        Step::Mount { to, from, blob } => {
            let digest = sha256(&content(*blob));
            if registry.mount_blob(REPOSITORIES[*to], REPOSITORIES[*from], &digest).unwrap() {
                model.of(REPOSITORIES[*to]).blobs.insert(digest);
            }
        }
        Step::Image { repository, blobs, subject, tag } => {
            let name = REPOSITORIES[*repository];
            let blobs: Vec<Digest> = blobs.iter().map(|blob| sha256(&content(*blob))).collect();
            let subject = subject.and_then(|at| model.some(name, at));
            let more = subject.iter().map(|subject| format!(r#","subject":{}"#, descriptor(subject)));
            let layers: Vec<String> = blobs.iter().map(descriptor).collect();
            let bytes = format!(r#"{{"schemaVersion":2,"layers":[{}]{}}}"#, layers.join(","), more.collect::<String>());
            store(registry, model, name, *tag, bytes.as_bytes(), Named { blobs, subject, children: Vec::new() });
        }
        Step::Index { repository, children, tag } => {
            let name = REPOSITORIES[*repository];
            let children: BTreeSet<Digest> = children.iter().filter_map(|at| model.some(name, *at)).collect();
            let list: Vec<String> = children.iter().map(descriptor).collect();
            let bytes = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, list.join(","));
            let named = Named { children: children.into_iter().collect(), ..Named::default() };
            store(registry, model, name, *tag, bytes.as_bytes(), named);
        }
        Step::Untag { repository, tag } => {
            let (name, tag) = (REPOSITORIES[*repository], TAGS[*tag]);
            assert_eq!(registry.delete_tag(name, tag).unwrap(), model.of(name).tags.remove(tag).is_some());
        }
        Step::DeleteManifest { at } => {
            let name = REPOSITORIES[at % REPOSITORIES.len()];
            let Some(digest) = model.some(name, *at) else { return };
            registry.delete_manifest(name, &digest).unwrap();
            let repository = model.of(name);
            repository.manifests.remove(&digest);
            repository.tags.retain(|_, to| *to != digest);
        }
        Step::DeleteBlob { repository, blob } => {
            let (name, digest) = (REPOSITORIES[*repository], sha256(&content(*blob)));
            registry.delete_blob(name, &digest).unwrap();
            model.of(name).blobs.remove(&digest);
        }
        Step::Retain { at } => {
            let name = REPOSITORIES[at % REPOSITORIES.len()];
            let digest = model.some(name, *at).filter(|digest| registry.manifest(name, digest).unwrap().is_some());
            model.retained.extend(digest.map(|digest| (name.to_owned(), digest)));
        }
        Step::Release { at } => {
            let at = at % model.retained.len().max(1);
            if at < model.retained.len() {
                model.retained.remove(at);
            }
        }
        Step::Collect => {
            collect(registry, &model.retained);
            model.check(registry);
            model.settle(&sim.disk());
        }
        Step::Restart => *registry = Registry::open_with(sim.disk(), "r", impatient()).unwrap(),
    }
}

/// Stores a manifest if all that it names is there.
fn store(registry: &Registry, model: &mut Model, name: &str, tag: Option<usize>, bytes: &[u8], named: Named) {
    let is_there = |model: &mut Model| {
        let repository = model.of(name);
        named.blobs.iter().all(|blob| repository.blobs.contains(blob))
            && named.children.iter().all(|child| repository.manifests.contains_key(child))
    };
    match put(registry, name, tag.map(|tag| TAGS[tag]), bytes) {
        Ok(digest) => {
            assert!(is_there(model), "it was taken though something is missing");
            if let Some(tag) = tag {
                model.of(name).tags.insert(TAGS[tag].to_owned(), digest.clone());
            }
            model.of(name).manifests.insert(digest, named);
        }
        Err(Error::ManifestBlobUnknown { .. }) => {
            assert!(!is_there(model), "{name}: it was refused though all is there")
        }
        Err(e) => panic!("{e}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn what_is_needed_stays_and_the_rest_goes(steps in steps()) {
        let sim = SimDisk::new(1);
        let mut registry = Registry::open_with(sim.disk(), "r", impatient()).unwrap();
        let mut model = Model::default();
        for step in &steps {
            take(&mut registry, &sim, &mut model, step);
        }
        while !model.uploads.is_empty() {
            take(&mut registry, &sim, &mut model, &Step::Finish);
        }
        // What was touched last is spared twice.
        let runs: Vec<Collected> = (0..3).map(|_| collect(&registry, &model.retained)).collect();
        prop_assert!(!runs[2].waits, "{:?}", runs);
        let mut contents = BTreeSet::new();
        for name in REPOSITORIES {
            let (manifests, mut blobs) = model.needed(name);
            blobs.retain(|digest| model.repositories[name].blobs.contains(digest));
            prop_assert_eq!(&linked(&sim.disk(), name, "_manifests"), &manifests, "{}", name);
            prop_assert_eq!(&linked(&sim.disk(), name, "_blobs"), &blobs, "{}", name);
            contents.extend(manifests.into_iter().chain(blobs));
        }
        prop_assert_eq!(contents_of(&sim.disk()), contents);
        model.check(&registry);
    }
}

fn linked(disk: &Disk, repository: &str, folder: &str) -> BTreeSet<Digest> {
    links(disk, &format!("r/repositories/{repository}/{folder}/sha256"))
}

fn links(disk: &Disk, dir: &str) -> BTreeSet<Digest> {
    let entries = disk.read_dir(Path::new(dir)).unwrap_or_default();
    entries.iter().map(|entry| format!("sha256:{}", entry.name).parse().unwrap()).collect()
}

fn contents_of(disk: &Disk) -> BTreeSet<Digest> {
    let shards = disk.read_dir("r/blobs/sha256").unwrap_or_default();
    shards.iter().flat_map(|shard| links(disk, &format!("r/blobs/sha256/{}", shard.name))).collect()
}

#[test]
fn what_was_touched_lately_is_spared() {
    let sim = SimDisk::new(1);
    let limits = Limits { untagged: Duration::ZERO, ..Limits::default() };
    let registry = Registry::open_with(sim.disk(), "r", limits).unwrap();
    push(&registry, "a", b"fresh");
    for _ in 0..3 {
        assert_eq!(collect(&registry, &[]), Collected { waits: true, ..Collected::default() });
    }
    assert!(registry.blob("a", &sha256(b"fresh")).unwrap().is_some());
}

#[test]
fn an_upload_spares_the_blobs_that_came_before_it() {
    let sim = SimDisk::new(1);
    let registry = Registry::open_with(sim.disk(), "r", impatient()).unwrap();
    let first = push(&registry, "a", b"first layer");
    let other = push(&registry, "b", b"of another repository");
    let id = registry.start_upload("a").unwrap();
    for _ in 0..3 {
        collect(&registry, &[]);
    }
    assert!(sim.disk().read_dir("r/repositories/a/_blobs/sha256").unwrap().len() == 1);
    assert!(registry.blob("b", &other).unwrap().is_none());
    assert!(registry.blob("a", &first).unwrap().is_some());
    registry.cancel_upload("a", &id).unwrap();
    for _ in 0..3 {
        collect(&registry, &[]);
    }
    assert!(registry.blob("a", &first).unwrap().is_none());
    assert_eq!(registry.tags("a").unwrap(), None, "a repository that has nothing any more is gone");
    assert!(sim.disk().read_dir("r/repositories").unwrap().is_empty());
    let metrics = registry.metrics();
    assert!(metrics.contains("skiff_registry_collected_total{what=\"content\"} 2\n"), "{metrics}");
    assert!(metrics.contains("skiff_registry_collected_bytes_total 32\n"), "{metrics}");
}

#[test]
fn a_damaged_manifest_stops_the_collection_of_its_repository() {
    let sim = SimDisk::new(1);
    let registry = Registry::open_with(sim.disk(), "r", impatient()).unwrap();
    let layer = push(&registry, "a", b"layer");
    let manifest = format!(r#"{{"schemaVersion":2,"layers":[{}]}}"#, descriptor(&layer));
    let digest = put(&registry, "a", Some("v1"), manifest.as_bytes()).unwrap();
    let path = format!("r/blobs/sha256/{}/{}", &digest.hex()[..2], digest.hex());
    sim.disk().open(&path, skiff_disk::Mode::Write).unwrap().write_at(b"X", 3).unwrap();
    for _ in 0..3 {
        collect(&registry, &[]);
    }
    assert!(registry.blob("a", &layer).unwrap().is_some());
}

#[test]
fn a_run_can_be_ended_at_each_step() {
    let sim = SimDisk::new(1);
    let registry = Registry::open_with(sim.disk(), "r", impatient()).unwrap();
    push(&registry, "a", b"1");
    push(&registry, "b", b"2");
    let mut runs = 0;
    let mut all = Collected::default();
    while !contents_of(&sim.disk()).is_empty() {
        runs += 1;
        assert!(runs < 100);
        // Ended at its first pause, its second, and so on, each after something was done.
        let mut left = runs;
        let pause = &mut || {
            left -= 1;
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let run = registry.collect(&[], pause).unwrap();
        all.links += run.links;
        all.contents += run.contents;
    }
    assert!(runs > 2, "{runs} runs");
    assert_eq!((all.links, all.contents), (2, 2));
}

/// Pushers that skip what they find there, as clients do, against a collector that never rests.
#[test]
fn nothing_that_was_acknowledged_is_taken_while_many_push() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::open_with(Disk::real(), dir.path(), impatient()).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let pushers: Vec<_> = (0..4_usize)
            .map(|n| {
                let registry = &registry;
                scope.spawn(move || (0..40).filter(|round| push_image(registry, n, *round)).count())
            })
            .collect();
        let collector = scope.spawn(|| {
            let mut all = Collected::default();
            while !done.load(SeqCst) {
                let run = collect(&registry, &[]);
                all.manifests += run.manifests;
                all.contents += run.contents;
            }
            all
        });
        let pushed: usize = pushers.into_iter().map(|pusher| pusher.join().unwrap()).sum();
        done.store(true, SeqCst);
        let all = collector.join().unwrap();
        assert!(pushed >= 40 && all.contents > 0, "{pushed} pushes, {all:?}");
    });
}

/// Pushes an image and moves a tag to it; checks that all of it is there. `false`: a blob was collected before it was named,
/// which a client is told.
fn push_image(registry: &Registry, pusher: usize, round: usize) -> bool {
    let repository = REPOSITORIES[pusher % 2];
    let layers = [content((pusher + round) % 5), content(round % 7)];
    let digests: Vec<Digest> = layers.iter().map(|layer| sha256(layer)).collect();
    for (layer, digest) in layers.iter().zip(&digests) {
        if registry.blob(repository, digest).unwrap().is_none() {
            push(registry, repository, layer);
        }
    }
    let tag = format!("of-{pusher}");
    let list: Vec<String> = digests.iter().map(descriptor).collect();
    let manifest = format!(r#"{{"schemaVersion":2,"layers":[{}],"annotations":{{"n":"{pusher}"}}}}"#, list.join(","));
    match put(registry, repository, Some(&tag), manifest.as_bytes()) {
        Ok(digest) => {
            for _ in 0..3 {
                assert_eq!(registry.resolve(repository, &tag).unwrap(), Some(digest.clone()));
                assert!(registry.manifest(repository, &digest).unwrap().is_some(), "the manifest is gone");
                for blob in &digests {
                    assert!(registry.blob(repository, blob).unwrap().is_some(), "a layer is gone");
                }
            }
            true
        }
        Err(Error::ManifestBlobUnknown { .. }) => false,
        Err(e) => panic!("{e}"),
    }
}

/// `sha256-HEX.sig` is of use as long as the image is.
#[test]
fn what_is_about_an_image_by_its_tag_goes_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::open_with(Disk::real(), dir.path(), impatient()).unwrap();
    let blob = push(&registry, "a", &content(1));
    let image = |tag: Option<&str>, note: &str| {
        let text = format!(
            r#"{{"schemaVersion":2,"config":{},"layers":[],"annotations":{{"n":"{note}"}}}}"#,
            descriptor(&blob)
        );
        put(&registry, "a", tag, text.as_bytes()).unwrap()
    };
    let signed = image(Some("v1"), "image");
    let about = |digest: &Digest, end: &str| format!("sha256-{}.{end}", digest.hex());
    let signature = image(Some(&about(&signed, "sig")), "signature");
    let of_signature = image(Some(&about(&signature, "att")), "attestation");
    let orphan = image(Some(&about(&sha256(b"never pushed"), "sig")), "orphan");
    let release = image(Some("v2"), "release");
    registry.tag("a", &release, &[&about(&sha256(b"never pushed"), "sbom")]).unwrap();
    // Often enough for what was pushed to be forgotten.
    let collect = |retained: &[(String, Digest)]| {
        (0..3).for_each(|_| {
            collect(&registry, retained);
        })
    };
    let there = |digest: &Digest| registry.manifest("a", digest).unwrap().is_some();

    collect(&[]);
    assert_eq!([&signed, &signature, &of_signature, &release, &orphan].map(there), [true, true, true, true, false]);
    registry.delete_tag("a", "v1").unwrap();
    // Retained, it keeps its own.
    collect(&[("a".to_owned(), signed.clone())]);
    assert_eq!([&signed, &signature, &of_signature].map(there), [true; 3]);
    collect(&[]);
    assert_eq!([&signed, &signature, &of_signature, &release].map(there), [false, false, false, true]);
    assert_eq!(registry.tags("a").unwrap().unwrap(), [about(&sha256(b"never pushed"), "sbom"), "v2".to_owned()][..]);
}

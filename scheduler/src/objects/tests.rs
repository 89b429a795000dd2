//! Objects, changes and namespaces over the store in memory.

use std::sync::Arc;

use jiff::Timestamp;
use skiff_api::resource::{
    Metadata, Namespace, NamespaceSpec, Replica, ReplicaSpec, ReplicaStatus, Revision, RevisionSpec, Route, Selector,
    Service, ServiceSpec, ServiceStatus,
};
use skiff_api::{Code, Name, Problem, RevisionName, Uid};

use super::{Change, Error, ObjectKey, Objects, key};
use crate::store::{List, MemoryStore};

async fn objects() -> Objects {
    let objects = Objects::new(Arc::new(MemoryStore::new()));
    objects.bootstrap().await.unwrap();
    objects
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn service(namespace: &str, service: &str, routes: &[(&str, &str)]) -> Service {
    let mut spec = ServiceSpec::new("hello:1".parse().unwrap());
    let route = |(host, path): &(&str, &str)| Route { host: Some((*host).to_owned()), path: (*path).to_owned() };
    spec.http.routes = routes.iter().map(route).collect();
    Service::new(Metadata::new(Some(name(namespace)), service), spec)
}

async fn routes(objects: &Objects) -> Vec<(String, String)> {
    let listing = objects.store().list(List::prefix(key::ROUTES)).await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    listing.entries.iter().map(|entry| (entry.key.to_string(), text(&entry.value))).collect()
}

#[tokio::test]
async fn what_is_created_is_read_back_and_complete() {
    let objects = objects().await;
    let created = objects.create(service("default", "cart", &[])).await.unwrap();
    assert_eq!(created.metadata.uid.as_str().len(), 32);
    assert_eq!(created.metadata.generation, 1);
    assert_ne!(created.metadata.created, Timestamp::default());
    assert_ne!(created.metadata.resource_version, "");
    assert_eq!(objects.find::<ServiceSpec>(Some(&name("default")), "cart").await.unwrap(), created);
    assert_eq!(objects.get::<ServiceSpec>(Some(&name("default")), "card").await.unwrap(), None);
    let again = objects.create(service("default", "cart", &[])).await.unwrap_err();
    assert_eq!(again.to_string(), "service/default/cart exists already");
    let stored = objects.store().get("/objects/services/default/cart").await.unwrap().unwrap();
    let stored: serde_json::Value = serde_json::from_slice(&stored.value).unwrap();
    assert_eq!(stored["metadata"]["resourceVersion"], "", "the version is the store's, not part of what is stored");
}

#[tokio::test]
async fn spec_and_status_keep_off_each_other() {
    let objects = objects().await;
    let first = objects.create(service("default", "cart", &[])).await.unwrap();
    let status = ServiceStatus { ready: 3, ..ServiceStatus::default() };
    objects.commit(Change::new().write_status(&first, status.clone())).await.unwrap();
    let seen: Service = objects.find(Some(&name("default")), "cart").await.unwrap();
    assert_eq!((&seen.status, seen.metadata.generation), (&status, 1));

    let mut wanted = service("default", "cart", &[]);
    wanted.status.ready = 99;
    wanted.metadata.uid = Uid::new("forged");
    wanted.metadata.labels.insert("tier".to_owned(), "backend".to_owned());
    let labelled = objects.write_spec(&seen, &wanted, Change::new()).await.unwrap();
    assert_eq!((labelled.status.ready, labelled.metadata.generation), (3, 1), "labels make no generation");
    assert_eq!(labelled.metadata.uid, first.metadata.uid);

    wanted.spec.replicas = 2.into();
    let scaled = objects.write_spec(&labelled, &wanted, Change::new()).await.unwrap();
    assert_eq!(scaled.metadata.generation, 2);
    assert_eq!(objects.find::<ServiceSpec>(Some(&name("default")), "cart").await.unwrap(), scaled);
}

#[tokio::test]
async fn a_write_from_an_old_reading_is_refused() {
    let objects = objects().await;
    let old = objects.create(service("default", "cart", &[])).await.unwrap();
    let mut wanted = old.clone();
    wanted.spec.replicas = 2.into();
    let new = objects.write_spec(&old, &wanted, Change::new()).await.unwrap();
    for change in [
        Change::new().write_spec(&old, &wanted),
        Change::new().write_status(&old, ServiceStatus::default()),
        Change::new().delete(&old),
        Change::new().require(&old),
    ] {
        let error = objects.commit(change).await.unwrap_err();
        assert!(error.is_conflict());
        let (seen, now) = (&old.metadata.resource_version, &new.metadata.resource_version);
        assert_eq!(error.to_string(), format!("service/default/cart changed: it is at {now}, not at {seen}"));
    }
    objects.commit(Change::new().delete(&new)).await.unwrap();
    let error = objects.commit(Change::new().delete(&new)).await.unwrap_err();
    assert_eq!(error.to_string(), "service/default/cart does not exist");
}

#[tokio::test]
async fn a_change_is_whole() {
    let objects = objects().await;
    let cart = objects.create(service("default", "cart", &[])).await.unwrap();
    let spec = RevisionSpec { service: name("cart"), number: 1, template: cart.spec.template() };
    let revision = Revision::new(Metadata::new(Some(name("default")), "cart-1"), spec);
    let status = ServiceStatus { revision: Some(RevisionName::new("cart-1")), ..ServiceStatus::default() };
    let both = || Change::new().create(&revision).write_status(&cart, status.clone());
    objects.commit(both()).await.unwrap();
    assert!(objects.get::<RevisionSpec>(Some(&name("default")), "cart-1").await.unwrap().is_some());
    let error = objects.commit(both()).await.unwrap_err();
    assert!(matches!(error, Error::AlreadyExists { .. }), "{error}");

    // Two creations in one namespace move its guard once.
    let replica = |n: u32| {
        let spec = ReplicaSpec {
            service: name("cart"),
            revision: RevisionName::new("cart-1"),
            node: None,
            moves_to: None,
            stop: false,
        };
        Replica::new(Metadata::new(Some(name("default")), format!("cart-1-{n}")), spec)
    };
    let exists = ObjectKey::of(&cart);
    objects.commit(Change::new().require_exists(&exists).create(&replica(1)).create(&replica(2))).await.unwrap();
    let listed = objects.list::<ReplicaSpec>(None, &Selector::default()).await.unwrap();
    assert_eq!(listed.items.len(), 2);
    assert_eq!(listed.items[0].status, ReplicaStatus::default());
    let missing = ObjectKey::new(skiff_api::Kind::Service, Some(&name("default")), "card");
    let error = objects.commit(Change::new().require_exists(&missing).create(&replica(3))).await.unwrap_err();
    assert_eq!(error.to_string(), "service/default/card does not exist");
}

#[tokio::test]
async fn a_route_leads_to_one_service() {
    let objects = objects().await;
    let cart = objects.create(service("default", "cart", &[("shop.example.com", "/cart")])).await.unwrap();
    let error = objects.create(service("default", "card", &[("shop.example.com", "/cart")])).await.unwrap_err();
    let problem = Problem::from(error);
    assert_eq!(problem.code, Code::RouteTaken);
    assert_eq!(problem.detail, "route shop.example.com/cart leads to service default/cart already");
    assert_eq!(problem.object.as_deref(), Some("service/default/cart"));
    assert!(objects.get::<ServiceSpec>(Some(&name("default")), "card").await.unwrap().is_none());

    // The default host is a route like any other.
    let error = objects.create(service("default", "thief", &[("web.default.localhost", "/")])).await;
    assert!(error.is_ok(), "nobody has it yet");
    let error = objects.create(service("default", "web", &[])).await.unwrap_err();
    assert_eq!(error.to_string(), "route web.default.localhost/ leads to service default/thief already");

    // A route that is given up is free, one that is kept stays, and a deleted service has none.
    let wanted = service("default", "cart", &[("shop.example.com", "/basket")]);
    let cart = objects.write_spec(&cart, &wanted, Change::new()).await.unwrap();
    let card = objects.create(service("default", "card", &[("shop.example.com", "/cart")])).await.unwrap();
    let error = objects.write_spec(&card, &wanted, Change::new()).await.unwrap_err();
    assert_eq!(error.to_string(), "route shop.example.com/basket leads to service default/cart already");
    objects.commit(Change::new().delete(&cart).delete(&card)).await.unwrap();
    let left = [("/routes/web.default.localhost/".to_owned(), "default/thief".to_owned())];
    assert_eq!(routes(&objects).await, left);
}

#[tokio::test]
async fn a_namespace_must_exist_and_be_empty() {
    let objects = objects().await;
    let error = objects.create(service("shop", "cart", &[])).await.unwrap_err();
    assert_eq!(error.to_string(), "namespace shop does not exist");
    let shop = Namespace::new(Metadata::new(None, "shop"), NamespaceSpec::default());
    let shop = objects.create(shop).await.unwrap();
    let cart = objects.create(service("shop", "cart", &[])).await.unwrap();
    let problem = Problem::from(objects.delete_namespace(&shop).await.unwrap_err());
    assert_eq!(problem.code, Code::NamespaceNotEmpty);
    assert_eq!(problem.detail, "namespace shop is not empty: it has service/cart");
    objects.commit(Change::new().delete(&cart)).await.unwrap();
    objects.delete_namespace(&shop).await.unwrap();
    let error = objects.create(service("shop", "cart", &[])).await.unwrap_err();
    assert_eq!(error.to_string(), "namespace shop does not exist");
}

#[tokio::test]
async fn a_creation_beats_a_deletion_of_its_namespace_that_has_looked_already() {
    let objects = objects().await;
    let shop = objects.create(Namespace::new(Metadata::new(None, "shop"), NamespaceSpec::default())).await.unwrap();
    let deletion = Change::new().delete(&shop).close_namespace(&name("shop"), None);
    objects.create(service("shop", "cart", &[])).await.unwrap();
    let error = objects.commit(deletion).await.unwrap_err();
    assert!(error.is_conflict());
    assert_eq!(error.to_string(), "namespace shop is in use");
}

#[tokio::test]
async fn names_that_would_leave_their_place_are_refused() {
    let objects = objects().await;
    for bad in ["", "a/b"] {
        let error = objects.create(service("default", bad, &[])).await.unwrap_err();
        assert_eq!(error.to_string(), format!("{bad:?} cannot name a Service"));
    }
    let error =
        objects.create(Namespace::new(Metadata::new(Some(name("default")), "x"), NamespaceSpec::default())).await;
    assert!(error.is_err(), "a namespace lies in no namespace");
}

#[tokio::test]
async fn a_damaged_object_is_an_error_that_names_it() {
    let objects = objects().await;
    let txn = crate::store::Txn::new().put("/objects/services/default/cart", "{");
    assert!(objects.store().commit(txn).await.unwrap().committed().is_some());
    let error = objects.get::<ServiceSpec>(Some(&name("default")), "cart").await.unwrap_err();
    assert_eq!(error.to_string(), "failed to read /objects/services/default/cart: it is damaged");
}

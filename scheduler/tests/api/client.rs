//! The typed client against a real server, over a line that can be cut.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::{Stream, StreamExt};
use serde_json::{Value, json};
use skiff_api::client::{ApplyAction, Change, Client, ClientOptions, Error, ListQuery, Run, Scope};
use skiff_api::resource::{Service, ServiceSpec};
use skiff_api::{Code, Kind};
use skiff_scheduler::store::Store;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::support::{self, Server, TOKEN};

/// A proxy between client and server. Cut, it drops every connection and takes no new one.
struct Line {
    addr: SocketAddr,
    is_cut: Arc<AtomicBool>,
    cuts: watch::Sender<u64>,
}

impl Line {
    async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (addr, is_cut, cuts) =
            (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(false)), watch::Sender::new(0));
        let (refuses, announce) = (Arc::clone(&is_cut), cuts.clone());
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                if refuses.load(Ordering::SeqCst) {
                    continue;
                }
                let mut cut = announce.subscribe();
                tokio::spawn(async move {
                    let mut far = TcpStream::connect(server).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Self { addr, is_cut, cuts }
    }

    fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    fn mend(&self) {
        self.is_cut.store(false, Ordering::SeqCst);
    }

    fn client(&self, token: &str) -> Client {
        Client::new(ClientOptions::new(format!("http://{}", self.addr), token)).unwrap()
    }
}

async fn served(server: &Server) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let router = server.router.clone();
    tokio::spawn(async move { axum::serve(listener, router).await });
    addr
}

fn namespace(name: &str) -> Value {
    json!({"kind": "Namespace", "name": name})
}

fn watching(client: &Client) -> Pin<Box<dyn Stream<Item = Result<Change, Error>> + Send>> {
    Box::pin(client.watch(Kind::Namespace, Scope::All, ListQuery::default()))
}

fn names(objects: &[Value]) -> Vec<&str> {
    objects.iter().map(|object| object["metadata"]["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn calls_are_typed_and_problems_keep_their_code() {
    let server = support::memory().await;
    let line = Line::to(served(&server).await).await;
    let client = line.client(TOKEN);
    let default = "default".parse().unwrap();

    let dry = client.apply(&support::service("cart"), Run::Dry).await.unwrap();
    assert_eq!(dry.action, ApplyAction::Created);
    assert!(client.get::<ServiceSpec>(&default, "cart").await.unwrap_err().is_not_found());
    let applied = client.apply(&support::service("cart"), Run::Real).await.unwrap();
    assert_eq!(applied.action, ApplyAction::Created);
    let mut cart: Service = client.get(&default, "cart").await.unwrap();
    client.scale(&default, "cart", 4).await.unwrap();
    cart.spec.replicas = 2.into();
    let stale = client.replace(&cart).await.unwrap_err();
    assert_eq!(stale.code(), Some(Code::Conflict), "{stale}");
    let list = client.list::<ServiceSpec>(&Scope::Namespace(default.clone()), &ListQuery::default()).await.unwrap();
    assert_eq!(list.items[0].spec.replicas, 4.into());
    client.delete(Kind::Service, &default, "cart").await.unwrap();

    let stranger = line.client("wrong").version().await.unwrap_err();
    assert_eq!(stranger.code(), Some(Code::Unauthorized), "{stranger}");
    line.cut();
    let gone = client.version().await.unwrap_err();
    assert!(matches!(gone, Error::Broken { .. } | Error::Unreachable { .. }), "{gone}");
}

#[tokio::test]
async fn a_watch_goes_on_where_it_was_cut() {
    let server = support::memory().await;
    let line = Line::to(served(&server).await).await;
    let client = line.client(TOKEN);
    let mut changes = watching(&client);
    assert!(matches!(changes.next().await, Some(Ok(Change::Restarted(all))) if names(&all) == ["default"]));
    for round in 0..5 {
        server.applied(namespace(&format!("before-{round}"))).await;
        let Some(Ok(Change::Added(one))) = changes.next().await else { panic!("not added") };
        assert_eq!(names(&[one]), [format!("before-{round}")]);
        line.cut();
        server.applied(namespace(&format!("during-{round}"))).await;
        line.mend();
        let Some(Ok(Change::Added(one))) = changes.next().await else { panic!("not added") };
        assert_eq!(names(&[one]), [format!("during-{round}")], "a change was lost or came twice");
    }
}

#[tokio::test]
async fn a_watch_lists_again_when_the_past_is_gone() {
    let server = support::memory().await;
    let line = Line::to(served(&server).await).await;
    let client = line.client(TOKEN);
    let mut changes = watching(&client);
    assert!(matches!(changes.next().await, Some(Ok(Change::Restarted(_)))));
    server.applied(namespace("early")).await;
    assert!(matches!(changes.next().await, Some(Ok(Change::Added(_)))));
    line.cut();
    // More than the store keeps in memory for those who are late.
    for n in 0..1100 {
        let mut document = namespace("busy");
        document["labels"] = json!({ "n": n.to_string() });
        server.applied(document).await;
    }
    let store: &Arc<dyn Store> = server.objects.store();
    store.compact(store.revision().await.unwrap()).await.unwrap();
    line.mend();
    let Some(Ok(Change::Restarted(all))) = changes.next().await else { panic!("not listed again") };
    assert_eq!(names(&all), ["busy", "default", "early"]);
    server.applied(namespace("late")).await;
    assert!(
        matches!(changes.next().await, Some(Ok(Change::Added(one))) if names(std::slice::from_ref(&one)) == ["late"])
    );
}

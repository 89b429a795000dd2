use jiff::Timestamp;
use rustls::AlertDescription;
use rustls::pki_types::ServerName;
use skiff_api::Uid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::authority::NODE_VALIDITY;
use crate::{Authority, Key, Peer};

fn now() -> Timestamp {
    Timestamp::now()
}

/// A clock that is not that of the machine, as far as time only goes on.
fn clock() -> Arc<Clock> {
    Clock::new(Timestamp::UNIX_EPOCH)
}

fn node_since(authority: &Authority, uid: &str, issued: Timestamp) -> Identity {
    let key = Key::generate().unwrap();
    let chain = authority.issue_node(&key.csr().unwrap(), &Uid::new(uid), issued).unwrap();
    Identity::new(&key, &chain, &authority.ca_pem()).unwrap()
}

fn node(authority: &Authority, uid: &str) -> Identity {
    node_since(authority, uid, now())
}

fn control_plane(authority: &Authority) -> Identity {
    authority.issue_server(&Key::generate().unwrap(), &["127.0.0.1".to_owned()], now()).unwrap()
}

/// What the server learned of the client, and the protocol; or what the client failed with.
async fn shake(
    client: ClientConfig,
    server: ServerConfig,
    name: ServerName<'static>,
) -> Result<(Option<Peer>, Option<Vec<u8>>), rustls::Error> {
    let (near, far) = tokio::io::duplex(64 << 10);
    let serving = tokio::spawn(async move {
        let mut stream = TlsAcceptor::from(Arc::new(server)).accept(far).await?;
        let (peer, alpn) = (Peer::of(stream.get_ref().1), stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec));
        stream.write_all(b"x").await?;
        Ok::<_, std::io::Error>((peer, alpn))
    });
    let connected = async {
        let mut stream = TlsConnector::from(Arc::new(client)).connect(name, near).await?;
        // A server refuses a certificate after its client thinks that all is well.
        stream.read_u8().await
    };
    let connected = connected.await;
    let served = serving.await.unwrap();
    match connected.map_err(|error| error.downcast::<rustls::Error>()) {
        Ok(_) => Ok(served.unwrap()),
        Err(Ok(error)) => Err(error),
        Err(Err(error)) => panic!("{error}"),
    }
}

fn of(authority: &Authority) -> Trust {
    Trust::Ca(authority.ca_pem())
}

fn host() -> ServerName<'static> {
    ServerName::try_from("192.0.2.7").unwrap()
}

#[tokio::test]
async fn each_side_knows_the_other() {
    let authority = Authority::generate(now()).unwrap();
    let (a, b, server_identity) = (node(&authority, "a"), node(&authority, "b"), control_plane(&authority));
    let alpn: &[&[u8]] = &[ALPN_CONTROL];
    for trust in [of(&authority), Trust::Hash(authority.ca_hash())] {
        let with = client(&trust, Expect::ControlPlane, Some(&a), alpn, &clock()).unwrap();
        let at = server(&server_identity, Clients::Optional, &[ALPN_H1, ALPN_CONTROL], &clock()).unwrap();
        let (peer, protocol) = shake(with, at, host()).await.unwrap();
        assert_eq!((peer.unwrap().uid, protocol.unwrap()), (Uid::new("a"), ALPN_CONTROL.to_vec()));

        let anonymous = client(&trust, Expect::ControlPlane, None, alpn, &clock()).unwrap();
        let at = server(&server_identity, Clients::Optional, alpn, &clock()).unwrap();
        assert_eq!(shake(anonymous, at, host()).await.unwrap().0, None);
    }
    let with = client(&of(&authority), Expect::Node, Some(&a), &[ALPN_PEER], &clock()).unwrap();
    let at = server(&b, Clients::Required, &[ALPN_PEER], &clock()).unwrap();
    let name = names::node_server_name(&Uid::new("b")).unwrap();
    assert_eq!(shake(with, at, name).await.unwrap().0.unwrap().uid, Uid::new("a"));
}

#[tokio::test]
async fn nobody_else_is_the_control_plane() {
    let [ours, foreign] = [(); 2].map(|()| Authority::generate(now()).unwrap());
    let name = names::control_plane_server_name().unwrap();
    // A node, a control plane of another cluster, and one that shows our authority with a certificate of its own.
    let mixed = {
        let key = Key::generate().unwrap();
        let theirs = foreign.issue_server(&key, &[], now()).unwrap();
        let mut chain = theirs.chain().to_vec();
        chain[1] = pem::certificate(&ours.ca_pem(), "ours").unwrap();
        let certified = CertifiedKey::from_der(chain, theirs.private_key(), &provider()).unwrap();
        server_with(Arc::new(SingleCertAndKey::from(certified)), &ours.ca_pem(), Clients::None, &[], &clock()).unwrap()
    };
    let servers = || {
        [
            server(&node(&ours, "n"), Clients::None, &[], &clock()).unwrap(),
            server(&control_plane(&foreign), Clients::None, &[], &clock()).unwrap(),
            mixed.clone(),
        ]
    };
    for trust in [of(&ours), Trust::Hash(ours.ca_hash())] {
        for at in servers() {
            let with = client(&trust, Expect::ControlPlane, None, &[], &clock()).unwrap();
            let error = shake(with, at, name.clone()).await.unwrap_err();
            assert!(matches!(error, rustls::Error::InvalidCertificate(_)), "{error}");
        }
    }
}

#[tokio::test]
async fn a_node_is_only_itself() {
    let authority = Authority::generate(now()).unwrap();
    let name = || names::node_server_name(&Uid::new("b")).unwrap();
    for identity in [node(&authority, "a"), control_plane(&authority)] {
        let with = client(&of(&authority), Expect::Node, None, &[], &clock()).unwrap();
        let at = server(&identity, Clients::None, &[], &clock()).unwrap();
        let error = shake(with, at, name()).await.unwrap_err();
        assert!(matches!(error, rustls::Error::InvalidCertificate(_)), "{error}");
    }
}

#[tokio::test]
async fn foreign_certificates_those_of_servers_and_none_are_refused() {
    let [ours, foreign] = [(); 2].map(|()| Authority::generate(now()).unwrap());
    let at = |clients| server(&control_plane(&ours), clients, &[], &clock()).unwrap();
    let refused = |error: rustls::Error| matches!(error, rustls::Error::AlertReceived(_));
    for identity in [node(&foreign, "n"), control_plane(&ours)] {
        for clients in [Clients::Optional, Clients::Required] {
            let with = client(&of(&ours), Expect::ControlPlane, Some(&identity), &[], &clock()).unwrap();
            assert!(refused(shake(with, at(clients), host()).await.unwrap_err()), "{identity:?} {clients:?}");
        }
    }
    let with = client(&of(&ours), Expect::ControlPlane, None, &[], &clock()).unwrap();
    let error = shake(with, at(Clients::Required), host()).await.unwrap_err();
    assert_eq!(error, rustls::Error::AlertReceived(AlertDescription::CertificateRequired));
}

#[tokio::test]
async fn an_expired_certificate_is_known_where_it_may_be_renewed_only() {
    let long_ago = now() - NODE_VALIDITY - jiff::SignedDuration::from_hours(1);
    let authority = Authority::generate(long_ago).unwrap();
    let old = node_since(&authority, "n", long_ago);
    let with = || client(&of(&authority), Expect::ControlPlane, Some(&old), &[], &clock()).unwrap();
    let at = |clients| server(&control_plane(&authority), clients, &[], &clock()).unwrap();
    let (peer, _) = shake(with(), at(Clients::Optional), host()).await.unwrap();
    let peer = peer.unwrap();
    assert!(peer.uid == Uid::new("n") && peer.is_expired(now()) && !peer.is_expired(long_ago));
    let error = shake(with(), at(Clients::Required), host()).await.unwrap_err();
    assert_eq!(error, rustls::Error::AlertReceived(AlertDescription::CertificateExpired));
}

/// A node whose battery is empty, which has verified before, and one that has not.
#[tokio::test]
async fn a_clock_that_is_behind_refuses_nobody_and_admits_nobody_who_has_expired() {
    let later = now() + jiff::SignedDuration::from_hours(24 * 365 * 10);
    let authority = Authority::generate(later).unwrap();
    let key = Key::generate().unwrap();
    let at = || {
        let identity = authority.issue_server(&key, &[], later + jiff::SignedDuration::from_hours(1)).unwrap();
        server(&identity, Clients::None, &[], &clock()).unwrap()
    };
    for trust in [of(&authority), Trust::Hash(authority.ca_hash())] {
        let with = client(&trust, Expect::ControlPlane, None, &[], &clock()).unwrap();
        shake(with, at(), host()).await.unwrap();
    }
    let known = Clock::new(later + jiff::SignedDuration::from_hours(24 * 366));
    let with = client(&of(&authority), Expect::ControlPlane, None, &[], &known).unwrap();
    let error = shake(with, at(), host()).await.unwrap_err();
    assert!(matches!(error, rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { .. })), "{error}");
}

#[tokio::test]
async fn older_versions_of_tls_are_not_spoken() {
    let authority = Authority::generate(now()).unwrap();
    let old = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(roots(&authority.ca_pem(), &clock()).unwrap())
        .with_no_client_auth();
    let at = server(&control_plane(&authority), Clients::Optional, &[], &clock()).unwrap();
    let error = shake(old, at, ServerName::try_from("127.0.0.1").unwrap()).await.unwrap_err();
    assert_eq!(error, rustls::Error::AlertReceived(AlertDescription::ProtocolVersion));
}

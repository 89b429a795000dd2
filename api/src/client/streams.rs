//! Bytes both ways: what is sent and what comes go on side by side.

use std::io;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, Stream, StreamExt};
use reqwest::{Body, Method};

use crate::client::calls::object_path;
use crate::client::{Client, Error};
use crate::id::{Name, ReplicaKey};
use crate::resource::Kind;
use crate::standard::{Channel, Frames, Size};
use crate::wire::Exec;

impl Client {
    /// Connects to the standard streams of a job's task: sends `input` to it, and answers with what it writes. An end
    /// without an error is the end of the task.
    pub async fn attach(
        &self,
        namespace: &Name,
        job: &str,
        input: BoxStream<'static, io::Result<Bytes>>,
    ) -> Result<impl Stream<Item = Result<(Channel, Vec<u8>), Error>> + use<>, Error> {
        let path = format!("{}/attach", object_path(Kind::Job, namespace, job)?);
        let request = self.request(Method::POST, &path, &[]).body(Body::wrap_stream(input));
        Ok(frames(self.clone(), self.send(request).await?))
    }

    /// Runs a command in a replica's container: sends it `input`, framed as [`crate::standard`] says, and answers with what
    /// it writes and how it ended.
    pub async fn exec(
        &self,
        exec: &Exec,
        input: BoxStream<'static, io::Result<Bytes>>,
    ) -> Result<impl Stream<Item = Result<(Channel, Vec<u8>), Error>> + use<>, Error> {
        let path = format!("{}/exec", replica_path(&exec.replica)?);
        let mut query: Vec<(&str, String)> = exec.command.iter().map(|word| ("command", word.clone())).collect();
        query.push(("stdin", exec.input.to_string()));
        if let Some(Size { columns, rows }) = exec.terminal {
            query.extend([("columns", columns.to_string()), ("rows", rows.to_string())]);
        }
        let request = self.request(Method::POST, &path, &query).body(Body::wrap_stream(input));
        Ok(frames(self.clone(), self.send(request).await?))
    }

    /// Connects to a port of a replica: sends it `input`, and answers with what comes back.
    pub async fn forward(
        &self,
        replica: &ReplicaKey,
        port: u16,
        input: BoxStream<'static, io::Result<Bytes>>,
    ) -> Result<impl Stream<Item = Result<Bytes, Error>> + use<>, Error> {
        let path = format!("{}/forward", replica_path(replica)?);
        let request = self.request(Method::POST, &path, &[("port", port.to_string())]).body(Body::wrap_stream(input));
        Ok(self.pieces(self.send(request).await?))
    }

    /// Takes up a tunnel, for the node whose certificate the connection shows.
    pub async fn take_up_tunnel(
        &self,
        id: u64,
        output: BoxStream<'static, io::Result<Bytes>>,
    ) -> Result<impl Stream<Item = Result<Bytes, Error>> + use<>, Error> {
        let request = self.request(Method::POST, &format!("/v1/tunnels/{id}"), &[]).body(Body::wrap_stream(output));
        Ok(self.pieces(self.send(request).await?))
    }

    fn pieces(&self, response: reqwest::Response) -> impl Stream<Item = Result<Bytes, Error>> + use<> {
        let client = self.clone();
        response.bytes_stream().map(move |piece| piece.map_err(|error| client.failure(&error)))
    }
}

fn replica_path(replica: &ReplicaKey) -> Result<String, Error> {
    object_path(Kind::Replica, &replica.namespace, replica.name.as_str())
}

fn frames(
    client: Client,
    response: reqwest::Response,
) -> impl Stream<Item = Result<(Channel, Vec<u8>), Error>> + use<> {
    let state = Some((client, response, Frames::default()));
    stream::unfold(state, |state| async move {
        let (client, mut response, mut frames) = state?;
        let broken = |client: &Client, why: String| Error::Broken { server: client.server(), why };
        loop {
            match frames.next_frame() {
                Ok(Some(frame)) => return Some((Ok(frame), Some((client, response, frames)))),
                Ok(None) => {}
                Err(error) => return Some((Err(broken(&client, error.to_string())), None)),
            }
            match response.chunk().await {
                Ok(Some(piece)) => frames.push(&piece),
                Ok(None) if frames.is_cut() => {
                    return Some((Err(broken(&client, "it ended amid what the task wrote".to_owned())), None));
                }
                Ok(None) => return None,
                Err(error) => return Some((Err(client.failure(&error)), None)),
            }
        }
    })
}

//! Where an image is: in the cluster's registry, or in another one.

use skiff_api::{Digest, ImageRef, Name};
use skiff_registry::client::{Error, Logins};
use skiff_registry::{Client, ClientOptions};

use crate::args::ServerArgs;
use crate::context::Context;
use crate::exit::Failure;

/// A repository, and the client that reaches it.
#[derive(Debug)]
pub(crate) struct Place {
    pub client: Client,
    pub repository: String,
    /// The registry, where it is not the cluster's.
    pub registry: Option<String>,
    reference: Reference,
}

#[derive(Debug)]
enum Reference {
    Tag(String),
    Digest(Digest),
}

impl Place {
    /// Finds an image. Only one of the cluster's needs a cluster.
    pub(crate) async fn find(
        server: &ServerArgs,
        image: &ImageRef,
        namespace: &Name,
        plain_http: bool,
    ) -> Result<Self, Failure> {
        let reference = match image.digest() {
            Some(digest) => Reference::Digest(digest.clone()),
            None => Reference::Tag(image.tag_or_latest().to_owned()),
        };
        let context = Context::find(server);
        let foreign = match (image.registry(), &context) {
            (Some(registry), Ok(context)) if context.is_own(registry) => None,
            (registry, _) => registry,
        };
        let Some(registry) = foreign else {
            let context = context?;
            let repository = image.without_registry().repository_in(namespace.as_str());
            return Ok(Self { client: context.registry()?, repository, registry: None, reference });
        };
        let repository = remote_repository(image);
        let login = Logins::of_user().find(registry, &repository).await.map_err(Error::from)?;
        let client = Client::new(ClientOptions::foreign(registry, plain_http, login))?;
        Ok(Self { client, repository, registry: Some(registry.to_owned()), reference })
    }

    /// What the image stands for now.
    pub(crate) async fn digest(&self) -> Result<Digest, Failure> {
        match &self.reference {
            Reference::Digest(digest) => Ok(digest.clone()),
            Reference::Tag(tag) => Ok(self.client.resolve(&self.repository, tag).await?),
        }
    }

    /// The image's whole name.
    pub(crate) fn name(&self) -> String {
        let registry = self.registry.as_ref().map(|registry| format!("{registry}/")).unwrap_or_default();
        match &self.reference {
            Reference::Digest(digest) => format!("{registry}{}@{digest}", self.repository),
            Reference::Tag(tag) => format!("{registry}{}:{tag}", self.repository),
        }
    }
}

/// The repository as its own registry calls it: Docker's has a folder for names of one part.
pub(crate) fn remote_repository(image: &ImageRef) -> String {
    let repository = image.repository();
    match image.registry() {
        Some("docker.io" | "index.docker.io") if !repository.contains('/') => format!("library/{repository}"),
        _ => repository.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_word_at_docker_is_in_its_library() {
        let of = |text: &str| remote_repository(&text.parse().unwrap());
        assert_eq!(of("docker.io/nginx:1"), "library/nginx");
        assert_eq!(of("docker.io/shop/cart"), "shop/cart");
        assert_eq!(of("ghcr.io/nginx"), "nginx");
    }
}

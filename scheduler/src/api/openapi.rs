//! The OpenAPI document, made from the router's table and the types themselves.

use skiff_api::Kind;
use skiff_api::Problem;
use skiff_api::resource as r;
use skiff_api::rollback::{RollBack, RolledBack};
use skiff_api::standard;
use skiff_api::why::{Rebalance, Why};
use utoipa::ToSchema;
use utoipa::openapi::path::{Operation, OperationBuilder, ParameterBuilder, ParameterIn, PathsBuilder};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ArrayBuilder, ComponentsBuilder, ContentBuilder, InfoBuilder, KnownFormat, ObjectBuilder, OpenApi, OpenApiBuilder,
    PathItem, Ref, RefOr, Required, ResponseBuilder, Schema, SchemaFormat, Type,
};

use super::apply::Applied;
use super::endpoints::Endpoint;
use super::info::Version;
use super::logs::ReplicaLine;
use super::scale::Scale;

/// A parameter or a body.
#[derive(Debug, Clone, Copy)]
pub(super) enum Param {
    LabelSelector,
    Limit,
    Continue,
    ResourceVersion,
    Watch,
    Regarding,
    DryRun,
    Follow,
    Tail,
    Since,
    Body(Kind),
    SparseBody,
    ScaleBody,
    RollBackBody,
    NodeChangeBody,
    TokenBody,
    Command,
    Stdin,
    Columns,
    Rows,
    Port,
    StandardInput,
}

/// What a success looks like.
#[derive(Debug, Clone, Copy)]
pub(super) enum Answer {
    Object(Kind),
    Created(Kind),
    TokenCreated,
    List(Kind),
    Applied,
    Scale,
    RolledBack,
    Why,
    Rebalance,
    Logs,
    StandardStreams,
    Bytes,
    Version,
    Json,
    Text,
    OpenText,
}

impl Param {
    /// Name, type and meaning, if it is in the query.
    fn in_query(self) -> Option<(&'static str, Type, &'static str)> {
        Some(match self {
            Self::LabelSelector => {
                ("labelSelector", Type::String, "`KEY=VALUE`, `KEY!=VALUE`, `KEY`, `!KEY`, with commas")
            }
            Self::Limit => ("limit", Type::Integer, "The most items of an answer"),
            Self::Continue => ("continue", Type::String, "From the answer before: the next page"),
            Self::ResourceVersion => ("resourceVersion", Type::String, "A list as of then; a watch of what follows"),
            Self::Watch => ("watch", Type::Boolean, "Changes as lines of JSON, without an end"),
            Self::Regarding => {
                ("regarding", Type::String, "`KIND/NAME`; a service includes its revisions and replicas")
            }
            Self::DryRun => ("dryRun", Type::Boolean, "Check and answer, but change nothing"),
            Self::Follow => ("follow", Type::Boolean, "Go on with new lines as they come"),
            Self::Tail => ("tail", Type::Integer, "Only the last so many lines of each replica"),
            Self::Since => ("since", Type::String, "Only lines from a time (RFC 3339) or a span (`10m`) ago on"),
            Self::Command => ("command", Type::String, "The program, and once more for each of its arguments"),
            Self::Stdin => ("stdin", Type::Boolean, "The command reads what is sent"),
            Self::Columns => ("columns", Type::Integer, "With `rows`: the command gets a terminal of that size"),
            Self::Rows => ("rows", Type::Integer, "With `columns`"),
            Self::Port => ("port", Type::Integer, "Where the container listens; of a component, any is HTTP"),
            Self::Body(_)
            | Self::SparseBody
            | Self::ScaleBody
            | Self::RollBackBody
            | Self::NodeChangeBody
            | Self::TokenBody
            | Self::StandardInput => return None,
        })
    }

    fn body(self) -> Option<(String, &'static str)> {
        match self {
            Self::Body(kind) => Some((kind.name().to_owned(), "The whole object; `metadata` needs only a name")),
            Self::SparseBody => {
                Some((Kind::Service.name().to_owned(), "An object with only the fields that are meant"))
            }
            Self::ScaleBody => Some((Scale::name().into_owned(), "The number of replicas")),
            Self::RollBackBody => Some((RollBack::name().into_owned(), "Which revision")),
            Self::NodeChangeBody => Some((r::NodeChange::name().into_owned(), "What is to change")),
            Self::TokenBody => Some((r::TokenRequest::name().into_owned(), "What it is to be good for")),
            _ => None,
        }
    }
}

/// One operation, with the variables of its path.
pub(super) fn operation(path: &str, id: &str, summary: &str, params: &[Param], answer: Answer) -> Operation {
    let mut operation = OperationBuilder::new().operation_id(Some(id)).summary(Some(summary));
    for variable in path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
        operation = operation.parameter(parameter(variable, ParameterIn::Path, Type::String, None));
    }
    for (name, kind, meaning) in params.iter().filter_map(|param| param.in_query()) {
        operation = operation.parameter(parameter(name, ParameterIn::Query, kind, Some(meaning)));
    }
    if let Some((schema, meaning)) = params.iter().find_map(|param| param.body()) {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(schema))).build();
        let body = RequestBodyBuilder::new().description(Some(meaning)).required(Some(Required::True));
        operation = operation.request_body(Some(body.content("application/json", content).build()));
    }
    if params.iter().any(|param| matches!(param, Param::StandardInput)) {
        let body =
            RequestBodyBuilder::new().description(Some("What is to be read at the other end, for as long as it lasts"));
        let content = ContentBuilder::new().schema(Some(bytes())).build();
        operation = operation.request_body(Some(body.content("application/octet-stream", content).build()));
    }
    let (status, media, schema) = success(answer);
    let content = ContentBuilder::new().schema(schema).build();
    operation = operation.response(status, ResponseBuilder::new().description("Success").content(media, content));
    if !matches!(answer, Answer::OpenText) {
        let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name(Problem::name()))).build();
        let response = ResponseBuilder::new().description("A problem, with a stable code and what to do");
        operation = operation.response("default", response.content(Problem::MEDIA_TYPE, problem));
        operation = operation.security(SecurityRequirement::new("token", [] as [&str; 0]));
    }
    operation.build()
}

fn parameter(name: &str, place: ParameterIn, kind: Type, meaning: Option<&str>) -> ParameterBuilder {
    let required = if matches!(place, ParameterIn::Path) { Required::True } else { Required::False };
    let schema = ObjectBuilder::new().schema_type(kind);
    ParameterBuilder::new().name(name).parameter_in(place).required(required).description(meaning).schema(Some(schema))
}

fn success(answer: Answer) -> (&'static str, &'static str, Option<RefOr<Schema>>) {
    const JSON: &str = "application/json";
    let named = |name: &str| Some(Ref::from_schema_name(name).into());
    match answer {
        Answer::Object(kind) => ("200", JSON, named(kind.name())),
        Answer::Created(kind) => ("201", JSON, named(kind.name())),
        Answer::TokenCreated => ("201", JSON, Some(token_created().into())),
        Answer::List(kind) => ("200", JSON, named(&format!("{kind}List"))),
        Answer::Applied => ("200", JSON, named(&Applied::name())),
        Answer::Scale => ("200", JSON, named(&Scale::name())),
        Answer::RolledBack => ("200", JSON, named(&RolledBack::name())),
        Answer::Why => ("200", JSON, named(&Why::name())),
        Answer::Rebalance => ("200", JSON, named(&Rebalance::name())),
        Answer::Logs => ("200", "application/x-ndjson", named(&ReplicaLine::name())),
        Answer::StandardStreams => ("200", standard::CONTENT_TYPE, Some(bytes().into())),
        Answer::Bytes => ("200", "application/octet-stream", Some(bytes().into())),
        Answer::Version => ("200", JSON, named(&Version::name())),
        Answer::Json => ("200", JSON, Some(ObjectBuilder::new().into())),
        Answer::Text | Answer::OpenText => {
            ("200", "text/plain", Some(ObjectBuilder::new().schema_type(Type::String).into()))
        }
    }
}

fn bytes() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).format(Some(SchemaFormat::KnownFormat(KnownFormat::Binary)))
}

fn token_created() -> ObjectBuilder {
    let text = ObjectBuilder::new().schema_type(Type::String);
    ObjectBuilder::new().property("token", text).property("object", Ref::from_schema_name(Kind::Token.name()))
}

/// The whole document.
pub(super) fn document(endpoints: &[Endpoint]) -> OpenApi {
    let token = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    let components =
        ComponentsBuilder::new().schemas_from_iter(schemas()).security_scheme("token", SecurityScheme::Http(token));
    let info = InfoBuilder::new().title("Skiff").version(env!("CARGO_PKG_VERSION"));
    let info = info.description(Some("Runs microservices as WebAssembly components on a fleet of machines."));
    let paths = endpoints.iter().fold(PathsBuilder::new(), |paths, endpoint| {
        paths.path(&endpoint.path, PathItem::new(endpoint.openapi_method(), endpoint.operation.clone()))
    });
    OpenApiBuilder::new().info(info.build()).paths(paths).components(Some(components.build())).build()
}

fn schemas() -> Vec<(String, RefOr<Schema>)> {
    let mut schemas = Vec::new();
    add::<Problem>(&mut schemas);
    add::<r::Metadata>(&mut schemas);
    add::<Applied>(&mut schemas);
    add::<Scale>(&mut schemas);
    add::<RollBack>(&mut schemas);
    add::<RolledBack>(&mut schemas);
    add::<r::NodeChange>(&mut schemas);
    add::<r::TokenRequest>(&mut schemas);
    add::<Why>(&mut schemas);
    add::<Rebalance>(&mut schemas);
    add::<ReplicaLine>(&mut schemas);
    add::<Version>(&mut schemas);
    add_kind::<r::NamespaceSpec>(&mut schemas);
    add_kind::<r::ImagePolicySpec>(&mut schemas);
    add_kind::<r::ConfigSpec>(&mut schemas);
    add_kind::<r::SecretSpec>(&mut schemas);
    add_kind::<r::NodeSpec>(&mut schemas);
    add_kind::<r::ServiceSpec>(&mut schemas);
    add_kind::<r::JobSpec>(&mut schemas);
    add_kind::<r::RevisionSpec>(&mut schemas);
    add_kind::<r::ReplicaSpec>(&mut schemas);
    add_kind::<r::EventSpec>(&mut schemas);
    add_kind::<r::TokenSpec>(&mut schemas);
    schemas
}

fn add<T: ToSchema>(schemas: &mut Vec<(String, RefOr<Schema>)>) {
    schemas.push((T::name().into_owned(), T::schema()));
    T::schemas(schemas);
}

/// A kind's spec and status, its envelope and its list.
fn add_kind<S: r::Spec + ToSchema>(schemas: &mut Vec<(String, RefOr<Schema>)>)
where
    S::Status: ToSchema,
{
    add::<S>(schemas);
    add::<S::Status>(schemas);
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let named = |name: &str| Ref::from_schema_name(name);
    let envelope = ObjectBuilder::new()
        .property("apiVersion", text())
        .property("kind", text().enum_values(Some([S::KIND.name()])))
        .property("metadata", named(&r::Metadata::name()))
        .property("spec", named(&S::name()))
        .property("status", named(&S::Status::name()))
        .required("kind")
        .required("metadata")
        .required("spec");
    let position = ObjectBuilder::new().property("resourceVersion", text()).property("continue", text());
    let list = ObjectBuilder::new()
        .property("apiVersion", text())
        .property("kind", text())
        .property("metadata", position)
        .property("items", ArrayBuilder::new().items(named(S::KIND.name())));
    schemas.push((S::KIND.name().to_owned(), envelope.into()));
    schemas.push((format!("{}List", S::KIND), list.into()));
}

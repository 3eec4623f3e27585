//! The OpenAPI document: made from the routes and the types that they take and give, checked in as
//! `docs/api/openapi.json`, and served. Nothing of it is written by hand but the sentences.

use aide::generate::GenContext;
use aide::openapi::{
    HeaderStyle, Info, MediaType, OpenApi, Operation, Parameter, ParameterData,
    ParameterSchemaOrContent, PathItem, ReferenceOr, Response, SchemaObject, SecurityScheme,
    StatusCode,
};
use axum::http::Method;
use serde_json::json;

use super::caller::required;
use super::failure::{Envelope, Kind};

/// The scheme's name in the document.
const TOKEN: &str = "token";
/// The header of a command that may be sent twice.
pub(super) const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Around the routes' own parts.
pub(super) fn begin() -> OpenApi {
    let info = Info {
        title: "Fleetway".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        description: Some(
            "The controller's API. Times are Unix seconds, digests are hexadecimal. Every refusal \
             is `{\"error\": {\"code\", \"message\", \"mend\"}}`. `x-fleetway-role` is the least role \
             that may ask."
                .into(),
        ),
        ..Info::default()
    };
    let mut api = OpenApi { info, ..OpenApi::default() };
    let scheme = SecurityScheme::Http {
        scheme: "bearer".into(),
        bearer_format: None,
        description: Some("A token of `fleetway token create`".into()),
        extensions: Default::default(),
    };
    let components = api.components.get_or_insert_default();
    components.security_schemes.insert(TOKEN.into(), ReferenceOr::Item(scheme));
    api
}

/// What is true of every operation: who may ask, how it is refused, and that a command may be sent
/// twice. From the same tables that the checks use.
pub(super) fn finish(api: &mut OpenApi) {
    let envelope = aide::generate::in_context(|ctx| ctx.schema.subschema_for::<Envelope>());
    for (path, item) in api.paths.iter_mut().flat_map(|paths| paths.paths.iter_mut()) {
        let ReferenceOr::Item(item) = item else { continue };
        for (method, operation) in operations(item) {
            let role = required(&method, path);
            if let Some(role) = role {
                operation.security.push([(TOKEN.to_owned(), Vec::new())].into_iter().collect());
                operation.extensions.insert("x-fleetway-role".into(), json!(role));
            }
            if method == Method::POST && role.is_some() {
                let text = "Any text of the client's own, 1 to 255 bytes. The same request with the \
                            same key is done once, within a day; the answer is the first one";
                operation.parameters.push(ReferenceOr::Item(text_header("Idempotency-Key", text)));
            }
            refusals(operation, &method, &envelope);
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (Method, &mut Operation)> {
    let PathItem { get, put, post, delete, .. } = item;
    let all =
        [(Method::GET, get), (Method::PUT, put), (Method::POST, post), (Method::DELETE, delete)];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

fn refusals(operation: &mut Operation, method: &Method, envelope: &schemars::Schema) {
    let mut kinds = vec![Kind::Usage, Kind::Unauthenticated, Kind::Forbidden, Kind::Unreachable];
    kinds.push(Kind::NotFound);
    if !method.is_safe() {
        kinds.extend([Kind::Conflict, Kind::Stale, Kind::Trust]);
    }
    let responses = operation.responses.get_or_insert_default();
    for kind in kinds {
        let schema =
            SchemaObject { json_schema: envelope.clone(), example: None, external_docs: None };
        let media = MediaType { schema: Some(schema), ..MediaType::default() };
        let response = Response {
            description: kind.sentence().into(),
            content: [("application/json".to_owned(), media)].into_iter().collect(),
            ..Response::default()
        };
        let status = StatusCode::Code(kind.http_status());
        responses.responses.entry(status).or_insert(ReferenceOr::Item(response));
    }
}

/// Adds a header to what an operation takes.
pub(super) fn header(_: &mut GenContext, operation: &mut Operation, name: &str, text: &str) {
    operation.parameters.push(ReferenceOr::Item(text_header(name, text)));
}

fn text_header(name: &str, text: &str) -> Parameter {
    let schema = SchemaObject {
        json_schema: schemars::json_schema!({ "type": "string" }),
        example: None,
        external_docs: None,
    };
    Parameter::Header {
        parameter_data: ParameterData {
            name: name.into(),
            description: Some(text.into()),
            required: false,
            deprecated: None,
            format: ParameterSchemaOrContent::Schema(schema),
            example: None,
            examples: Default::default(),
            explode: None,
            extensions: Default::default(),
        },
        style: HeaderStyle::Simple,
    }
}

/// The document as it is checked in.
pub(crate) fn text(api: &OpenApi) -> String {
    let mut text = serde_json::to_string_pretty(api).unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::Value;

    use crate::api::server::document;

    /// `FLEETWAY_BLESS=1` writes it anew.
    #[test]
    fn the_document_that_is_checked_in_is_the_code_s() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/api/openapi.json");
        let now = super::text(&document());
        if std::env::var_os("FLEETWAY_BLESS").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &now).unwrap();
        }
        let stored = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(stored == now, "docs/api/openapi.json is stale; run this with FLEETWAY_BLESS=1");
    }

    #[test]
    fn every_operation_has_a_name_a_sentence_a_role_and_its_refusals() {
        let document: Value = serde_json::from_str(&super::text(&document())).unwrap();
        let mut seen = 0;
        let mut names = std::collections::BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                seen += 1;
                let name = operation["operationId"].as_str().unwrap_or_default();
                assert!(!name.is_empty() && names.insert(name.to_owned()), "{method} {path}");
                assert!(operation["summary"].is_string(), "{method} {path}");
                assert!(operation["responses"]["400"].is_object(), "{method} {path}");
                let open = ["/v1/openapi.json", "/v1/session"].contains(&path.as_str());
                let has_role = operation["x-fleetway-role"].is_string();
                assert!(has_role || open, "{method} {path}");
                assert_eq!(has_role, operation["security"].is_array(), "{method} {path}");
                for segment in path.split('/').filter_map(|s| s.strip_prefix('{')) {
                    let name = segment.trim_end_matches('}');
                    let parameters = operation["parameters"].as_array().unwrap();
                    let is_there = |p: &Value| p["in"] == "path" && p["name"] == name;
                    assert!(parameters.iter().any(is_there), "{method} {path}: {name}");
                }
            }
        }
        assert!(seen >= 20, "{seen}");
    }
}

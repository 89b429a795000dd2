//! Components that do not fit are refused before they get a request, with words that help.

use skiff_host::sandbox::PrepareError;

use crate::support::{Replica, Setup, component, sandbox};

async fn prepared(wat: &str) -> Result<Replica, PrepareError> {
    let dir = tempfile::tempdir().unwrap();
    let wasm = dir.path().join("component.wasm");
    std::fs::write(&wasm, wat::parse_str(wat).unwrap()).unwrap();
    let sandbox = sandbox();
    let code = component(&sandbox, &wasm).await;
    Setup::default().prepare(&sandbox, &code).await
}

async fn refused(wat: &str) -> PrepareError {
    prepared(wat).await.err().expect("it does not fit")
}

#[tokio::test]
async fn an_unknown_import_is_named() {
    let error = refused(
        r#"(component
            (import "acme:db/store@1.0.0" (instance))
            (import "wasi:io/poll@0.2.0" (instance))
            (import "wasi:keyvalue/store@0.2.0" (instance)))"#,
    )
    .await;
    assert!(
        matches!(&error, PrepareError::UnknownImports { imports, .. }
            if *imports == ["acme:db/store@1.0.0", "wasi:keyvalue/store@0.2.0"]),
        "{error:?}"
    );
    assert!(error.to_string().contains("acme:db/store@1.0.0") && error.to_string().contains("hint"), "{error}");
}

#[tokio::test]
async fn a_missing_handler_names_what_is_there() {
    let error = refused(r#"(component (instance $i) (export "acme:shop/cart@1.0.0" (instance $i)))"#).await;
    assert!(error.to_string().contains("it exports acme:shop/cart@1.0.0"), "{error}");
    let error = refused("(component)").await;
    assert!(error.to_string().contains("it exports nothing"), "{error}");
}

#[tokio::test]
async fn a_handler_of_another_type_is_refused() {
    let error = refused(r#"(component (instance $i) (export "wasi:http/incoming-handler@0.2.0" (instance $i)))"#).await;
    assert!(matches!(error, PrepareError::IncompatibleHandler(_)), "{error:?}");
    // Nor does one run that only says so.
    let error = refused(r#"(component (instance $i) (export "wasi:cli/run@0.2.0" (instance $i)))"#).await;
    assert!(matches!(error, PrepareError::IncompatibleHandler(_)), "{error:?}");
}

#[tokio::test]
async fn a_known_interface_with_an_unknown_function_is_refused() {
    let error = refused(
        r#"(component
            (import "wasi:random/random@0.2.0" (instance (export "roll-dice" (func (result u8)))))
            (instance $i)
            (export "wasi:http/incoming-handler@0.2.0" (instance $i)))"#,
    )
    .await;
    let PrepareError::IncompatibleImports(source) = &error else { panic!("{error:?}") };
    assert!(format!("{source:#}").contains("roll-dice"), "{source:#}");
}

#[tokio::test]
async fn the_engine_reports_what_it_chose() {
    let report = sandbox().report();
    assert!(report.name.starts_with("wasmtime 48."), "{}", report.name);
    assert_eq!(report.instances, 96);
    assert!(report.choices.contains_key("pagemap-scan"));
}

//! Manifests: any text gives objects or one error with a place, and an object reads back from its envelope.

use skiff_api::manifest::{MANIFEST_BYTES_MAX, read};

pub fn check(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let documents = match read("input.yaml", text) {
        Ok(documents) => documents,
        Err(error) => {
            assert!(error.to_string().contains("input.yaml"), "{error}");
            return;
        }
    };
    for document in documents {
        let envelope = document.sparse.to_string();
        // Escapes make JSON longer than the YAML it came from.
        if envelope.len() > MANIFEST_BYTES_MAX {
            continue;
        }
        let again = read("envelope.json", &envelope);
        let Ok([again]) = again.as_deref() else {
            let said = again.as_ref().err().map(ToString::to_string);
            assert!(again.is_ok(), "an envelope is not read back: {said:?}\n{envelope}");
            assert_eq!(again.map(|found| found.len()).ok(), Some(1), "{envelope}");
            return;
        };
        assert_eq!(again.typed, document.typed, "{envelope}");
        assert_eq!(again.sparse, document.sparse);
    }
}

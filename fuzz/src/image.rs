//! Image references: parse, print, parse.

use skiff_api::ImageRef;
use skiff_api::image::{is_repository, is_tag};

pub fn check(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let Ok(image) = text.parse::<ImageRef>() else { return };
    let printed = image.to_string();
    assert_eq!(printed, text);
    assert_eq!(printed.parse().as_ref(), Ok(&image));
    assert!(is_repository(image.repository()));
    assert!(is_tag(image.tag_or_latest()));
    // What is derived must read back as itself too: it is stored, and sent to other machines.
    for derived in [image.without_digest(), image.without_registry()] {
        assert_eq!(derived.to_string().parse(), Ok(derived.clone()));
        assert_eq!(derived.repository(), image.repository());
    }
}

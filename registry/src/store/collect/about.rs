//! Tags that stand for what is about another manifest: pure.
//!
//! cosign, and whoever does as it did before registries knew referrers, keeps the signatures of an image under the tag
//! `sha256-HEX.sig`, attestations under `.att` and bills of material under `.sbom`. They are of use as long as the image is:
//! such a tag is no root, but a reference from the image.

use skiff_api::Digest;

const ENDS: [&str; 3] = [".sig", ".att", ".sbom"];

/// The manifest that what has this tag is about.
pub(super) fn subject_of(tag: &str) -> Option<Digest> {
    let name = ENDS.iter().find_map(|end| tag.strip_suffix(end))?;
    let (algorithm, hex) = name.split_once('-')?;
    format!("{algorithm}:{hex}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_about_another_manifest_names_it() {
        let hex = "ab".repeat(32);
        for end in ENDS {
            let subject = subject_of(&format!("sha256-{hex}{end}"));
            assert_eq!(subject.map(|digest| digest.to_string()), Some(format!("sha256:{hex}")));
        }
        let other = ["v1.sig", "sha256-abab.sig", "latest"].map(str::to_owned);
        for tag in other.into_iter().chain([format!("sha256-{hex}"), format!("sha256-{hex}.txt")]) {
            assert_eq!(subject_of(&tag), None, "{tag}");
        }
    }
}

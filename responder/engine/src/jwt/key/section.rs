//! The sections of a PEM file (RFC 7468), as people and programs write them: text around them does not matter.
//!
//! Whatever is made of a private key on the way is cleared when it is dropped, so that nothing here may grow and leave a copy behind.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use zeroize::Zeroizing;

/// Padding is as good as none.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A section.
pub(super) enum Section {
    /// A private key that is not encrypted.
    Private(Zeroizing<Vec<u8>>),
    Certificate,
    PublicKey,
    Other,
}

/// All sections, in the order in which they stand; `None` where one is cut short or garbled.
pub(super) fn sections(text: &[u8]) -> Option<Vec<Section>> {
    let mut found = Vec::new();
    let mut open: Option<&[u8]> = None;
    let mut base64 = Zeroizing::new(Vec::with_capacity(text.len()));
    for line in text.split(|byte| matches!(byte, b'\n' | b'\r')) {
        if let Some(begins) = line.strip_prefix(b"-----BEGIN ") {
            let label = begins.trim_ascii_end().strip_suffix(b"-----")?;
            if open.is_some() || label.ends_with(b"-") {
                return None;
            }
            base64.clear();
            open = Some(label);
        } else if let Some(label) = open {
            if ends(line, label) {
                found.push(section(label, &base64)?);
                open = None;
            } else {
                base64.extend(line.iter().filter(|byte| !byte.is_ascii_whitespace()));
            }
        }
    }
    open.is_none().then_some(found)
}

fn ends(line: &[u8], label: &[u8]) -> bool {
    let rest = line.strip_prefix(b"-----END ").and_then(|rest| rest.strip_prefix(label));
    rest.is_some_and(|rest| rest.starts_with(b"-----"))
}

fn section(label: &[u8], base64: &[u8]) -> Option<Section> {
    Some(match label {
        b"PRIVATE KEY" | b"RSA PRIVATE KEY" | b"EC PRIVATE KEY" => {
            let mut der = Zeroizing::new(vec![0; base64.len()]);
            let length = BASE64.decode_slice(base64, &mut der).ok()?;
            der.truncate(length);
            Section::Private(der)
        }
        b"CERTIFICATE" => Section::Certificate,
        b"PUBLIC KEY" => Section::PublicKey,
        _ => Section::Other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Option<String> {
        let all = sections(text.as_bytes())?;
        let one = |section: &Section| match section {
            Section::Private(der) => String::from_utf8_lossy(der).into_owned(),
            Section::Certificate => "certificate".to_owned(),
            Section::PublicKey => "public".to_owned(),
            Section::Other => "other".to_owned(),
        };
        Some(all.iter().map(one).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn sections_are_found_in_any_text() {
        for (text, expected) in [
            ("", Some("")),
            ("no section", Some("")),
            ("-----BEGIN PRIVATE KEY-----\nYWJj\n-----END PRIVATE KEY-----", Some("abc")),
            (
                "x\r\n-----BEGIN EC PRIVATE KEY----- \r\n YW \r\nJj\r\n-----END EC PRIVATE KEY-----\r\ny",
                Some("abc"),
            ),
            ("-----BEGIN PRIVATE KEY-----\nYWI\n-----END PRIVATE KEY-----", Some("ab")),
            ("-----BEGIN PRIVATE KEY-----\nYWI=\n-----END PRIVATE KEY-----", Some("ab")),
            (
                "-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----\n-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n\
                 -----BEGIN EC PARAMETERS-----\n-----END EC PARAMETERS-----\n-----BEGIN RSA PRIVATE KEY-----\nYQ==\n-----END RSA PRIVATE KEY-----\n",
                Some("certificate public other a"),
            ),
            ("-----BEGIN PRIVATE KEY-----\nYWJj\n", None),
            ("-----BEGIN PRIVATE KEY-----\nYWJj\n-----END PUBLIC KEY-----\n", None),
            (
                "-----BEGIN PRIVATE KEY-----\nYW\n-----BEGIN PRIVATE KEY-----\nJj\n-----END PRIVATE KEY-----\n",
                None,
            ),
            ("-----BEGIN PRIVATE KEY----\nYWJj\n-----END PRIVATE KEY-----\n", None),
            ("-----BEGIN PRIVATE KEY-----\nY!Jj\n-----END PRIVATE KEY-----\n", None),
            ("-----BEGIN PRIVATE KEY-----\nYWJj=YWJj\n-----END PRIVATE KEY-----\n", None),
        ] {
            assert_eq!(shown(text).as_deref(), expected, "{text}");
        }
    }
}

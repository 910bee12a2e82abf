//! Bytes as letters that mean nothing to HTML.

use std::io::{self, Write};

const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Writes `bytes` in base64 with padding (RFC 4648, section 4).
pub(super) fn write_base64(bytes: &[u8], out: &mut dyn Write) -> io::Result<()> {
    let mut letters = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for index in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * index) & 63) as usize];
            letters.push(if index <= group.len() { letter } else { b'=' });
        }
    }
    out.write_all(&letters)
}

#[cfg(test)]
mod tests {
    use super::write_base64;

    #[test]
    fn test_vectors_of_the_rfc() {
        let encoded = |bytes: &[u8]| {
            let mut out = Vec::new();
            write_base64(bytes, &mut out).expect("memory can be written");
            String::from_utf8(out).expect("ASCII")
        };
        let texts = ["", "f", "fo", "foo", "foob", "fooba", "foobar"];
        let expected = ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"];
        assert_eq!(texts.map(|text| encoded(text.as_bytes())), expected);
        assert_eq!(encoded(&[0xFB, 0xFF, 0xFE]), "+//+");
    }
}

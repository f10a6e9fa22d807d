//! Files of tensors as every framework reads them:
//!
//! ```text
//! n: 8 bytes, little-endian | n bytes of JSON, filled up with spaces | the values, one tensor after the other
//! ```

use std::{collections::BTreeMap, fs, io, path::Path};

use serde_json::{Map, Value, json};

/// Numbers in rows and columns.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tensor {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

/// By name.
pub(crate) type Tensors = BTreeMap<String, Tensor>;

pub(crate) fn write(path: &Path, tensors: &Tensors) -> io::Result<()> {
    let mut data = Vec::new();
    let mut header = Map::new();
    for (name, tensor) in tensors {
        let begin = data.len();
        data.extend(tensor.values.iter().flat_map(|value| value.to_le_bytes()));
        let entry = json!({
            "dtype": "F32",
            "shape": tensor.shape,
            "data_offsets": [begin, data.len()],
        });
        header.insert(name.clone(), entry);
    }
    let mut header = Value::Object(header).to_string();
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    let length = u64::try_from(header.len()).map_err(io::Error::other)?;
    fs::write(path, [&length.to_le_bytes(), header.as_bytes(), &data].concat())
}

pub(crate) fn read(path: &Path) -> io::Result<Tensors> {
    let bytes = fs::read(path)?;
    parse(&bytes).ok_or_else(|| {
        let message = format!("{}: not a safetensors file of 32-bit numbers", path.display());
        io::Error::new(io::ErrorKind::InvalidData, message)
    })
}

fn parse(bytes: &[u8]) -> Option<Tensors> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (header, data) = rest.split_at_checked(u64::from_le_bytes(*length).try_into().ok()?)?;
    let header: Map<String, Value> = serde_json::from_slice(header).ok()?;
    let tensors = header.into_iter().filter(|(name, _)| name != "__metadata__");
    tensors.map(|(name, entry)| Some((name, tensor(&entry, data)?))).collect()
}

fn tensor(entry: &Value, data: &[u8]) -> Option<Tensor> {
    let shape: Vec<usize> = serde_json::from_value(entry["shape"].clone()).ok()?;
    let [begin, end]: [usize; 2] = serde_json::from_value(entry["data_offsets"].clone()).ok()?;
    let (numbers, rest) = data.get(begin..end)?.as_chunks();
    let values: Vec<f32> = numbers.iter().map(|number| f32::from_le_bytes(*number)).collect();
    let expected = shape.iter().try_fold(1, |product: usize, side| product.checked_mul(*side))?;
    let fits = rest.is_empty() && values.len() == expected;
    (entry["dtype"] == "F32" && fits).then_some(Tensor { shape, values })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(tensors: &Tensors) -> Vec<u8> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("weights.safetensors");
        write(&path, tensors).unwrap();
        fs::read(path).unwrap()
    }

    fn with_header(header: &str) -> Vec<u8> {
        let length = u64::try_from(header.len()).unwrap();
        [&length.to_le_bytes(), header.as_bytes(), &[0; 8]].concat()
    }

    #[test]
    fn every_part_of_a_file_is_refused_and_the_whole_is_read() {
        let tensor = |shape: &[usize], values: &[f32]| Tensor {
            shape: shape.to_vec(),
            values: values.to_vec(),
        };
        let tensors = Tensors::from([
            ("bias".to_owned(), tensor(&[2], &[0.5, -0.0])),
            ("weight".to_owned(), tensor(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, f32::MAX])),
        ]);
        let whole = file(&tensors);
        for length in 0..whole.len() {
            assert_eq!(parse(&whole[..length]), None, "{length} bytes");
        }
        assert_eq!(parse(&whole), Some(tensors));
    }

    #[test]
    fn the_values_begin_where_a_processor_likes_to_load_them() {
        for name in ["a", "ab", "abc", "abcd", "abcde", "abcdef", "abcdefg", "abcdefgh"] {
            let tensors =
                Tensors::from([(name.to_owned(), Tensor { shape: vec![0], values: vec![] })]);
            assert_eq!(file(&tensors).len() % 8, 0, "{name}");
        }
    }

    #[test]
    fn a_header_that_lies_is_refused() {
        for (shape, offsets, kind) in [
            ("[2]", "[0, 4]", "F32"),
            ("[2]", "[0, 12]", "F32"),
            ("[2]", "[8, 0]", "F32"),
            ("[2]", "[0, 7]", "F32"),
            ("[2]", "[0, 8]", "F16"),
            ("[-2]", "[0, 8]", "F32"),
            ("[9223372036854775807, 3]", "[0, 8]", "F32"),
            ("[2]", "[0, 18446744073709551615]", "F32"),
        ] {
            let entry = format!(r#"{{"dtype":"{kind}","shape":{shape},"data_offsets":{offsets}}}"#);
            assert_eq!(parse(&with_header(&format!(r#"{{"x":{entry}}}"#))), None, "{entry}");
        }
        assert_eq!(parse(&u64::MAX.to_le_bytes()), None);
        assert_eq!(parse(&with_header("[]")), None);
    }
}

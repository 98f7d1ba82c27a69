//! Lists as Python writes them, and what is refused.

use super::*;
use serde_json::json;

fn read(bytes: &[u8]) -> Result<Vec<Value>, String> {
    read_pickle(Path::new("x.p"), bytes).map_err(|e| e.to_string())
}

#[test]
fn plain_values_of_text_protocol() {
    let text = b"(lp0\nI-5\naI01\naL99L\naF1.5\naS'a\\x41\\'\\\\\\n'\np1\naS\"it's\"\naVcaf\xe9 \\u20ac\\ud83d\\ude00\nag1\naNa(I1\nI2\nta.";
    let got = read(text).unwrap();
    let want = json!([-5, true, 99, 1.5, "aA'\\\n", "it's", "caf\u{e9} \u{20ac}\u{1f600}", "aA'\\\n", null, [1, 2]]);
    assert_eq!(Value::from(got), want);
}

/// `pickle.dumps([numpy.int64(17), numpy.int32(-2), numpy.float64(1.5), numpy.bool_(True)], protocol)` of numpy 1.26, and one in
/// big-endian order; nothing else may be called.
#[test]
fn numbers_of_numpy() {
    let head = b"\x80\x02]q\0(cnumpy.core.multiarray\nscalar\nq\x01cnumpy\ndtype\nq\x02X\x02\0\0\0i8q\x03K\0K\x01\x87q\x04Rq\x05(K\x03X\x01\0\0\0<q\x06NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tq\x07b";
    // Protocol 2 writes bytes as text of Latin-1 that is encoded again.
    let old = [
        &head[..],
        b"c_codecs\nencode\nq\x08X\x08\0\0\0\x11\0\0\0\0\0\0\0q\x09X\x06\0\0\0latin1q\x0a\x86q\x0bRq\x0c\x86q\x0dRq\x0ee.",
    ]
    .concat();
    assert_eq!(Value::from(read(&old).unwrap()), json!([17]));
    let new = [&head[..], b"C\x08\xfe\xff\xff\xff\xff\xff\xff\xff\x86Re."].concat();
    assert_eq!(Value::from(read(&new).unwrap()), json!([-2]));
    let scalar = |dtype: &str, raw: &[u8]| {
        let mut bytes = b"\x80\x04](\x8c\x16numpy._core.multiarray\x8c\x06scalar\x93\x8c\x05numpy\x8c\x05dtype\x93\x8c".to_vec();
        bytes.push(dtype.len() as u8);
        bytes.extend(dtype.bytes());
        bytes.extend(b"\x89\x88\x87RC");
        bytes.push(raw.len() as u8);
        bytes.extend(raw);
        bytes.extend(b"\x86Re.");
        read(&bytes).map(Value::from)
    };
    assert_eq!(scalar("f8", &1.5f64.to_le_bytes()).unwrap(), json!([1.5]));
    assert_eq!(scalar(">i4", &(-7i32).to_be_bytes()).unwrap(), json!([-7]));
    assert_eq!(scalar("b1", &[1]).unwrap(), json!([true]));
    assert_eq!(scalar("u1", &[200]).unwrap(), json!([200]));
    assert!(scalar("i8", &[1, 2]).is_err() && scalar("O8", &[0; 8]).is_err());
    assert!(read(b"\x80\x02]cos\nsystem\nX\x02\0\0\0ls\x85Ra.").unwrap_err().contains("object"));
}

#[test]
fn plain_values_of_binary_protocols() {
    let bytes = b"\x80\x02](K\x05M\x00\x01J\xff\xff\xff\xff\x8a\x00\x8a\x01\x80\x8a\x02\xff\x00\x88\x89C\x01a}U\x01k]q\x00X\x01\x00\x00\x00vash\x00h\x00\x86e.";
    let want = json!([5, 256, -1, 0, -128, 255, true, false, "a", {"k": ["v"]}, [["v"], ["v"]]]);
    assert_eq!(Value::from(read(bytes).unwrap()), want);
}

//! A tensor as a pickle describes it: a call of a function of torch, which is read and not made.

use std::borrow::Cow;

use candle_core::pickle::Object;
use candle_core::{DType, Device, Shape, Tensor};

use super::Found;

/// A tensor that a pickle describes: a view of a storage.
pub(super) struct View {
    pub(super) storage: String,
    pub(super) dtype: DType,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

impl View {
    /// Reads the call that makes a tensor: its storage, offset, shape and strides, and what does not matter here.
    pub(super) fn of(callable: Object, args: Object) -> Found<Self> {
        let (_, function) = callable.class().map_err(|_| "not a tensor")?;
        let mut args = args.tuple().map_err(|_| "not a tensor")?.into_iter();
        let mut next = || args.next().ok_or("made with too few arguments");
        match function.as_str() {
            "_rebuild_parameter" => {
                let (callable, args) = next()?.reduce().map_err(|_| "a parameter without tensor")?;
                Self::of(callable, args)
            }
            "_rebuild_from_type_v2" => {
                let (callable, _class) = (next()?, next()?);
                Self::of(callable, next()?)
            }
            "_rebuild_tensor" | "_rebuild_tensor_v2" => {
                let (storage, dtype) = storage_of(next()?)?;
                let (offset, shape, strides) = (number(next()?)?, numbers(next()?)?, numbers(next()?)?);
                match shape.len() == strides.len() {
                    true => Ok(Self { storage, dtype, offset, shape, strides }),
                    false => Err("as many strides as dimensions are needed".into()),
                }
            }
            other => Err(format!("made by `{other}`, not an ordinary tensor")),
        }
    }

    /// A copy of the tensor out of its storage's bytes: parameters that share memory could not be changed one at a time.
    pub(super) fn tensor(&self, storage: &[u8]) -> Found<Tensor> {
        let elements = storage.len() / self.dtype.size_in_bytes();
        let outside = || format!("reaches beyond the {elements} elements of its storage");
        let count =
            self.shape.iter().try_fold(1usize, |count, &length| count.checked_mul(length)).ok_or_else(outside)?;
        if count > 0 && self.last().is_none_or(|last| last >= elements) {
            return Err(outside());
        }
        // A few bytes of a file can say that a tensor has as many elements as it likes.
        if count > elements {
            return Err("repeats elements of its storage; save it again from `tensor.contiguous()`".into());
        }
        let data = if count > 0 { self.gathered(count, storage) } else { Cow::Borrowed(&[][..]) };
        Tensor::from_raw_buffer(&data, self.dtype, &self.shape, &Device::Cpu).map_err(|error| error.to_string())
    }

    /// The place of the last element of a tensor that has any, unless that is no number.
    fn last(&self) -> Option<usize> {
        let mut dimensions = self.shape.iter().zip(&self.strides);
        dimensions.try_fold(self.offset, |last, (&length, &stride)| last.checked_add((length - 1).checked_mul(stride)?))
    }

    /// The bytes of its `count` elements, which are some and lie within the storage, row by row.
    fn gathered<'s>(&self, count: usize, storage: &'s [u8]) -> Cow<'s, [u8]> {
        let size = self.dtype.size_in_bytes();
        let bytes = |start: usize, count: usize| &storage[start * size..][..count * size];
        if Shape::from(self.shape.as_slice()).is_contiguous(&self.strides) {
            return Cow::Borrowed(bytes(self.offset, count));
        }
        let mut places = vec![self.offset];
        for (&length, &stride) in self.shape.iter().zip(&self.strides) {
            places = places.iter().flat_map(|place| (0..length).map(move |i| place + i * stride)).collect();
        }
        Cow::Owned(places.into_iter().flat_map(|place| bytes(place, 1)).copied().collect())
    }
}

/// The key of a storage and the type of its elements.
fn storage_of(object: Object) -> Found<(String, DType)> {
    let wrong = "its storage is not described as torch does";
    let parts = object.persistent_load().and_then(Object::tuple).map_err(|_| wrong)?;
    let [_, Object::Class { class_name, .. }, Object::Unicode(key), _, _, rest @ ..] = parts.as_slice() else {
        return Err(wrong.into());
    };
    if rest.iter().any(|part| *part != Object::None) {
        return Err("its storage is a view of another, as in files of torch before 0.4".into());
    }
    let dtype = match class_name.as_str() {
        "FloatStorage" => DType::F32,
        "DoubleStorage" => DType::F64,
        "HalfStorage" => DType::F16,
        "BFloat16Storage" => DType::BF16,
        "LongStorage" => DType::I64,
        "IntStorage" => DType::I32,
        "ShortStorage" => DType::I16,
        "ByteStorage" | "BoolStorage" => DType::U8,
        other => return Err(format!("elements of type `{other}` are not supported")),
    };
    Ok((key.clone(), dtype))
}

fn number(object: Object) -> Found<usize> {
    let number = object.int_or_long().map_err(|_| "a size is not a number")?;
    usize::try_from(number).map_err(|_| "a size is negative".into())
}

fn numbers(object: Object) -> Found<Vec<usize>> {
    object.tuple().map_err(|_| "sizes must be a tuple")?.into_iter().map(number).collect()
}

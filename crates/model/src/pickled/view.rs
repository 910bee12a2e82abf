//! A tensor as a pickle describes it: a call of a function of torch, which is read and not made.

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

    /// A copy of the tensor: parameters that share memory could not be changed one at a time.
    pub(super) fn tensor(&self, storage: &Tensor) -> Found<Tensor> {
        if self.dtype != storage.dtype() {
            return Err("its storage has another type elsewhere".into());
        }
        let outside = || format!("reaches beyond the {} elements of its storage", storage.elem_count());
        let reach = |(&length, &stride): (&usize, &usize)| length.saturating_sub(1).checked_mul(stride);
        let mut last = Some(self.offset);
        for dimension in self.shape.iter().zip(&self.strides) {
            last = last.zip(reach(dimension)).and_then(|(last, reach)| last.checked_add(reach));
        }
        let count = self.shape.iter().try_fold(1usize, |count, &length| count.checked_mul(length));
        let (Some(last), Some(count)) = (last, count) else { return Err(outside()) };
        if count > 0 && last >= storage.elem_count() {
            return Err(outside());
        }
        if count > storage.elem_count() {
            return Err("repeats elements of its storage; save it again from `tensor.contiguous()`".into());
        }
        self.copied(storage, count).map_err(|error| error.to_string())
    }

    fn copied(&self, storage: &Tensor, count: usize) -> candle_core::Result<Tensor> {
        let is_contiguous = Shape::from(self.shape.clone()).is_contiguous(&self.strides);
        if count == 0 || is_contiguous {
            let start = if count == 0 { 0 } else { self.offset };
            return storage.narrow(0, start, count)?.force_contiguous()?.reshape(self.shape.clone());
        }
        let mut places = vec![self.offset as i64];
        for (&length, &stride) in self.shape.iter().zip(&self.strides) {
            places = places.iter().flat_map(|place| (0..length).map(move |i| place + (i * stride) as i64)).collect();
        }
        storage.index_select(&Tensor::new(places, &Device::Cpu)?, 0)?.reshape(self.shape.clone())
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
        "ByteStorage" => DType::U8,
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

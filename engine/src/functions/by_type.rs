//! Functions of one name that are two in DataFusion: one for arrays, one for everything else (`concat`, `reverse`).

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::internal_err;
use datafusion::error::Result;
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// The functions of this file.
pub fn functions() -> Vec<Arc<ScalarUDF>> {
    use datafusion::functions_nested::{concat::array_concat_udf, reverse::array_reverse_udf};
    let pairs = [
        ("concat", array_concat_udf(), datafusion_spark::function::string::concat()),
        ("reverse", array_reverse_udf(), datafusion::functions::unicode::reverse()),
    ];
    let by_type = |(name, arrays, others)| {
        let signature = Signature::user_defined(Volatility::Immutable);
        Arc::new(ScalarUDF::new_from_impl(ByType { name, signature, arrays, others }))
    };
    pairs.into_iter().map(by_type).collect()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ByType {
    name: &'static str,
    signature: Signature,
    arrays: Arc<ScalarUDF>,
    others: Arc<ScalarUDF>,
}

impl ByType {
    fn choose<'t>(&self, mut types: impl Iterator<Item = &'t DataType>) -> &ScalarUDF {
        if types.any(|t| matches!(t, DataType::List(_) | DataType::LargeList(_))) { &self.arrays } else { &self.others }
    }
}

impl ScalarUDFImpl for ByType {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let fields: Vec<FieldRef> = arg_types.iter().map(|t| Arc::new(Field::new("", t.clone(), true))).collect();
        let fields = fields_with_udf(&fields, self.choose(arg_types.iter()))?;
        Ok(fields.iter().map(|f| f.data_type().clone()).collect())
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        internal_err!("{} is typed from its arguments", self.name)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.choose(args.arg_fields.iter().map(|f| f.data_type())).return_field_from_args(args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.choose(args.arg_fields.iter().map(|f| f.data_type())).invoke_with_args(args)
    }
}

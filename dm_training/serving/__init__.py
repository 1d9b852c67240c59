"""What stands behind `dm-serve`: an exported model on the net.

`served_model` calls a SavedModel, `json_tensors` is TensorFlow Serving's JSON,
`batcher` merges requests and runs them on one thread, `limits` bounds what a client may
ask for, `guard` says who may ask and counts, `score` judges one uploaded file, `app`
puts it together and `server` runs and drains it.
"""

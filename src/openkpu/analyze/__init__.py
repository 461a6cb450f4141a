"""What a model is and how good it is: summaries of files, float against KPU, boxes of detection outputs."""

-- The quick example of Spark's guide: how often was each word seen so far? Lines come from text files that appear in a
-- folder; `wavetank run examples/word_count.sql` prints the whole answer after every file.
CREATE TABLE lines (value STRING)
USING text OPTIONS (path 'examples/data/lines', maxFilesPerTrigger '1');

CREATE TEMPORARY VIEW words AS SELECT explode(split(value, ' ')) AS word FROM STREAM lines;

CREATE STREAMING TABLE counts
USING console OPTIONS (outputMode 'complete', trigger 'availableNow')
AS SELECT word, count(*) AS count FROM words GROUP BY word ORDER BY count DESC, word;

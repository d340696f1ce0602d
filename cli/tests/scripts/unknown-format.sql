CREATE TABLE people (name STRING) USING jsn OPTIONS (path 'people');
